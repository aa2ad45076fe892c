"""Frequent words by language: articles, pronouns, prepositions, conjunctions, auxiliaries.  Small letters."""

from __future__ import annotations

_LISTS = {
    "en": """a about after all also an and any are as at be because been before being but by can could did do does
        for from had has have he her here him his how i if in into is it its just me more most my no not of on one only
        or other our out over she should so some such than that the their them then there these they this those to up
        was we were what when where which who why will with would you your""",
    "de": """aber alle als am an auch auf aus bei bin bis bist da damit dann das dass dem den der des dich die dies
        diese dieser dieses dir doch du durch ein eine einem einen einer eines er es euch für hat hatte ich ihm ihn ihr
        ihre im in ist ja kann kein keine man mein mich mir mit nach nicht noch nur ob oder ohne schon sehr sein seine
        sich sie sind so über um und uns unter vom von vor war waren was weil wenn werden wie wir wird wo zu zum zur""",
    "fr": """ai au aussi aux avec avoir ce ces cet cette c'est comme d'un d'une dans de des du elle elles en est et
        être eu il ils j'ai je la le les leur leurs lui l'a ma mais me même mes mon ne nos notre nous on ont ou où par
        pas plus pour qu'il que qui quand sa sans se ses si son sont sur ta te tes toi ton tous tout très tu un une vos
        votre vous était""",
    "es": """a al algo como con cual cuando de del desde donde dos el ella ellos en entre era es esta este esto está
        están fue ha hasta hay la las le les lo los me mi muy más ni no nos o otra otro para pero por porque que qué se
        ser si sin sobre son su sus también te tiene todo todos tu un una uno unos y ya yo""",
    "it": """a ad agli ai al alla alle anche c'è che chi ci come con cosa da dal dalla degli dei del della delle di e
        ed era gli ha hanno ho i il in io la le lei li lo loro lui ma mi mia mio molto nel nella nelle noi non nostro o
        ogni per perché più quando quella quello questa questo se sei si sia sono su sua suo sul sulla ti tra tu tutti
        tutto un una uno voi è""",
    "pt": """a ao aos as até com como da das de dela dele do dos e ela ele eles em entre era essa esse esta este eu
        foi há isso isto já lhe mais mas me mesmo meu minha muito na nas nem no nos nossa não o os ou para pela pelo
        por porque quando que quem se sem ser seu sua são também te tem tudo um uma você à às é""",
    "nl": """aan al alles als altijd ben bij daar dan dat de der deze die dit doch doen door een en er ge geen had heb
        hebben heeft het hier hij hoe hun iemand iets ik in is ja je kan kon kunnen maar me meer men met mij mijn moet
        na naar niet niets nog nu of om omdat ons ook op over te tegen toch toen tot u uit uw van veel voor want waren
        was wat we wel werd wie wij worden zal ze zich zij zijn zo zonder zou""",
    "sv": """alla allt att av blev bli blir då de dem den denna deras dess det detta dig din där du efter ej eller en
        er ett från för ha hade han hans har henne hennes hon honom hur här i icke inte jag ju kan kunde man med mellan
        men mig min mot mycket ni nu när någon något några och om oss på samma sedan sig sin sina sitta själv skulle så
        sådan till under upp ut utan vad var varje vi vid vilka vilken är över""",
    "da": """ad af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din disse dog du
        efter eller en end er et for fra ham han hans har havde have hende hendes her hos hun hvad hvis hvor i ikke ind
        jeg jer jo kunne man mange med meget men mig min mod ned noget nogle nu når og også om op os over på selv sig
        sin skal skulle som sådan thi til ud under var vi vil ville være været""",
    "fi": """ei eivät emme en et että ette he hän ja jos joka jotka kanssa kuin kun me mikä minä minun mitä mukaan
        mutta myös ne niin nyt näin nämä oli olla olen olet olemme ole on ovat se sekä sen siitä sinä sitä tai te
        tämä tämän tässä vaan vain vielä voi""",
    "pl": """a aby ale bardzo bez być był była było były co czy dla do gdy go i ich ja jak jako je jego jej jest
        jestem już kiedy która które który którzy lub ma mi mnie może my na nad nie nich niż o od on ona oni oraz po
        pod przez przy są się ta tak także te tego ten to tu ty tylko tym u w we wszystko z za ze że""",
    "cs": """a aby aj ale ani asi až bez bude by byl byla byli bylo být co což či do ho i jak jako je jeho její jejich
        jen ještě jsem jsme jsou k kde kdo kdy když která které který ke má mezi mi může na nad nebo není nich než o od
        on ona pak po pod podle pro proto protože před při s se si so své svůj ta tak také tato tedy ten této to toho
        tu ty u už v ve více však z za ze že""",
    "tr": """ama ancak bana bazı belki ben beni bir biz bu buna bunu çok çünkü da daha de değil diye en gibi hem hep
        her hiç için ile ise kadar ki kim mı mi mu mü nasıl ne neden o olan olarak oldu olduğu onlar onu onun sen siz
        sonra şey şu tüm var ve veya ya yani yok""",
    "id": """ada adalah akan aku anda antara apa atau bagi bahwa banyak belum bisa dalam dan dapat dari dengan di dia
        hanya harus ini itu jika juga kami kamu karena ke kepada kita lagi lebih maka mereka namun oleh pada para
        saat saja sama sangat saya secara sebagai seperti setiap sudah tanpa telah tetapi tidak untuk yang""",
    "ru": """а без более бы был была были было быть в вам вас весь во вот все всего вы где да даже для до его ее если
        есть еще же за и из или им их к как ко когда кто ли мне может мы на над не него нет ни но ну о об он она они
        оно от по под при с со так такой там то того тоже только том ты у уже чем что чтобы эта эти это этот я""",
    "uk": """а або але б без більше був була були було бути в вам вас ви він від все всі вже до для де за з зі і із її
        їх й його коли ми мене може на над не ні них о об один от по під при про та так також те ти то того тому у
        хто це цей ця чи чим що щоб як яка який які я є""",
    "bg": """а ако без беше би бъде в вас ви във все всички да до докато е едно за защо и из или им има когато как
        като какво която които който към ли ме между мен ми много му на над най не него нещо ни нито но от по под пред
        при с са само се сега си ще съм със така тази те тези ти то това той тук че чрез""",
}
WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}
"""The words of each language, by its code (ISO 639-1)."""
