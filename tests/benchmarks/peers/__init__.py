"""llmos beside its peers: the same checkpoint, prompts and lengths, in turn, on one machine.

``python -m tests.benchmarks.peers`` prepares each peer in an environment of its own and compares.  A module of this
package that is named after a peer runs in that peer's environment, where llmos is not: such a module, `serve` and
`progress` import the standard library and the peer's own packages only.
"""
