"""``python -m tests.benchmarks``: the kernel's benchmarks."""

from tests.benchmarks.kernel import main

if __name__ == "__main__":
    main()
