### endless-loop: never ends
#=> used more than 1 seconds of CPU time or took longer than
while True:
    pass

### deaf-loop: never ends, and is deaf to the signal that ends it
#=> used more than 1 seconds of CPU time or took longer than
#namespaces=> ended its process by signal 9 or took longer than
_, _, library = escape()
library.signal(24, 1)
while True:
    pass

### catching-loop: catches whatever happens to it, for ever
#=> used more than 1 seconds of CPU time or took longer than
def forever():
    while True:
        try:
            while True:
                [].append(1 / 0)
        except BaseException:
            pass
forever()

### sleep: sleeps too long
#=> took longer than 6 seconds (`wall_secs`)
import time
time.sleep(100)

### huge-power: computes a number that has a hundred million digits
#=> used more than 1 seconds of CPU time or took longer than
10 ** 10 ** 8

### exact-decimal: divides to nine hundred million digits
#=> MemoryError or used more than 1 seconds of CPU time or took longer than
decimal.getcontext().prec = 900_000_000
decimal.Decimal(1) / 7

### backtracking: has a regular expression try every way there is
#=> used more than 1 seconds of CPU time or took longer than
import re
re.match("(a+)+$", "a" * 50 + "b")

### endless-destructor: hangs in a destructor when all is done
#=> used more than 1 seconds of CPU time or took longer than
class Last:
    def __del__(self):
        while True:
            pass
Last()

### more-time: allows itself more CPU time
#=> Operation not permitted
_, ctypes, _ = escape()
must("setrlimit", 0, (ctypes["c_ulong"] * 2)(1000, 1000))
