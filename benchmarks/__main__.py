"""All benchmarks, one after the other: ``make bench``."""

from benchmarks import call, imports, memory, outage, where

for benchmark in (call, where, outage, imports, memory):
    benchmark.main()
    print()
