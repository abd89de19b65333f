### ten-gibibytes: takes ten gibibytes at once
#=> MemoryError
"x" * (10 << 30)

### many-mebibytes: takes a mebibyte at a time, for ever
#=> MemoryError
kept = []
while True:
    kept.append(bytes(1 << 20))

### many-little-things: takes as little as it can at a time, for ever
#=> MemoryError or used more than 1 seconds of CPU time or took longer than
kept = None
while True:
    kept = [kept]

### ten-gibibytes-by-hand: the same past the interpreter
#=> Cannot allocate memory
must("syscall", NUMBERS["mmap"], 0, 10 << 30, 3, 0x22, -1, 0)

### more-memory: allows itself more memory
#=> Operation not permitted
_, ctypes, _ = escape()
must("setrlimit", 9, (ctypes["c_ulong"] * 2)(1 << 40, 1 << 40))

### recursion: calls itself for ever
#=> RecursionError
def again():
    again()
again()

### recursion-without-end: the same with the interpreter's limit taken away
#=> MemoryError or ended its process by signal 11 or used more than 1 seconds of CPU time or took longer than
import sys
sys.setrecursionlimit(10 ** 9)
def again():
    return [again() for _ in [0]]
again()

### endless-list: a list of itself as a price
#=> which is no number
price["price"] = []
price["price"].append(price["price"])

### scan-memory: searches its memory for what the run before it was given
#=> priced 1
import gc
_, ctypes, library = escape()
madvise, sbrk = library.madvise, library.sbrk
madvise.argtypes = [ctypes["c_void_p"], ctypes["c_size_t"], ctypes["c_int"]]
sbrk.restype = ctypes["c_void_p"]
pages, page = set(), (sbrk(0) - 1) & ~4095
# Since Linux 5.14 the kernel tells whether a page can be read.
advice = 22 if madvise(page, 4096, 22) == 0 else 0
def is_mapped(address):
    return madvise(address, 4096, advice) == 0
while is_mapped(page):
    pages.add(page)
    page -= 4096
for arena in {id(one) >> 20 for one in gc.get_objects() + object.__subclasses__() + [data, b"x", "x"]}:
    pages.update(page for page in range(arena << 20, (arena + 1) << 20, 4096) if is_mapped(page))
assert len(pages) > 500, len(pages)
# What is searched for is written with each byte one higher, so that neither this text nor a copy of it is found.
higher = bytes((byte + 1) % 256 for byte in range(256))
for page in pages:
    assert b"uif.tfdsfu.xpse" not in ctypes["string_at"](page, 4096).translate(higher)

### earlier-answers: searches the place that answers pass through for what the run before it answered
#=> priced 1
import sys
frame, replies = sys._getframe(), []
while frame is not None:
    replies += [one.reply for one in frame.f_locals.values() if hasattr(one, "reply")]
    frame = frame.f_back
assert replies
assert not any(bytes(reply).strip(b"\0") for reply in replies)
