"""A text of many kinds that exports read to see how large keys and values become."""

from __future__ import annotations

from typing import Final

TEXT: Final = """\
The harbour town of Velden lies where a slow river meets the sea. Every morning the fishing boats come back before
dawn, and by seven o'clock the market is full of voices. "How much for the whole crate?" asked a woman in a red coat.
"Twelve, and I will carry it for you," said the boy. She laughed, paid him fifteen, and told him to keep the change.

Water boils at 100 °C at sea level; at 3,000 metres it boils at about 90 °C, because the air presses less upon it. A
litre of it weighs one kilogram, so a cube of 10 cm on each side holds exactly that much. In 1783 the brothers
Montgolfier let a balloon of paper and linen rise over Annonay; 186 years later, two people walked on the Moon.

def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)

{"id": 4711, "name": "Ada", "tags": ["x86", "arm64"], "ratio": 0.125, "parent": null, "active": true}

| city | people | area in km² |
|---|---|---|
| Porto | 231,800 | 41.4 |
| Graz | 291,072 | 127.6 |

User: Can you tell me why the sky is blue?
Assistant: Sunlight is made of many colours. Air scatters short waves, such as blue, far more than long ones, such as
red, so blue light reaches your eyes from all over the sky.
User: And at sunset?
Assistant: Then the light crosses much more air. Most of the blue is gone before it arrives, and red remains.

1. Wash the rice until the water stays clear.
2. Put it into a pot with 1.5 times as much water, a pinch of salt, and a bay leaf.
3. Bring it to the boil, cover it, and let it stand on the lowest heat for 12 minutes.
4. Do not lift the lid. Wait for another 10 minutes, then loosen it with a fork.

Der Zug nach Innsbruck fährt heute von Gleis 7 ab; wegen Bauarbeiten dauert die Reise zwanzig Minuten länger.
La bibliothèque ouvre à neuf heures, sauf le dimanche. ¿Dónde está la estación más cercana, por favor?
今天天气很好,我们去公园散步吧。 昨日、駅で古い友だちに会いました。 Сегодня утром шёл сильный дождь.

If f(x) = 3x² - 2x + 1, then f'(x) = 6x - 2, and the only minimum lies at x = 1/3, where f(1/3) = 2/3. The sum of the
first n odd numbers is n²: 1 + 3 + 5 + 7 = 16 = 4². Let p be a prime; then a^p ≡ a (mod p) for every whole number a.

SELECT name, COUNT(*) AS orders FROM customers JOIN orders USING (customer_id) WHERE total > 99.95 GROUP BY name;

Dear Ms Okafor, thank you for your letter of 3 March. We have checked the invoice (no. 2024-118) and found that the
discount of 5 % was not applied. The difference, EUR 84.20, will be on your account within three working days. Please
accept our apologies. Yours sincerely, J. Lindqvist

No, no, no! Stop... wait. What was that? It came from the cellar: knock, knock -- then silence; then, very softly, a
song that nobody had sung in this house for forty years.
"""
