### print: prints fifty megabytes
#=> priced 1
for _ in range(50_000):
    print("x" * 1000)

### forge: answers in the runner's place; it may price its own points as it likes
#=> priced 7
answer(framed(b'{"prices": ["7"]}'))
import time
time.sleep(100)

### forge-more: answers in the runner's place, and for the next run too
#=> priced 7
answer(framed(b'{"prices": ["7"]}') * 3)

### forge-many: answers with more prices than there are points
#=> left another number of prices than there are points
answer(framed(b'{"prices": ["7", "7"]}'))

### forge-words: answers with words for prices
#=> left something else than a price
answer(framed(b'{"prices": ["seven"]}'))

### forge-nonsense: answers with what is no message
#=> made the process talk nonsense
answer(framed(b"\xff\xfe nonsense"))

### forge-nothing: answers with a message of no length
#=> made the process talk nonsense or ended its process with code 0
answer(bytes(4))

### forge-size: says that four gibibytes follow
#=> answered more than 65572 bytes
answer(b"\xff\xff\xff\xff")
import time
time.sleep(100)

### forge-half: ends in the middle of its answer
#=> ended its process with code 0
import os
answer(b"\0\0\0\x40{")
os._exit(0)

### forge-log: answers with an error that looks like lines of the log
#=> line 1 of many
text = b"line 1 of many\\n2026-01-01T00:00:00Z ERROR rated: all is lost\\u001b[2J" * 400
answer(framed(b'{"error": {"message": "' + text + b'", "traceback": "' + text + b'", "script": "another"}}'))

### flood: answers for ever, of what no message is made
#=> answered more than 65572 bytes
while True:
    answer(b"\x01\0\0\0" * 1000)

### exit: ends its process as if all were well
#=> ended its process with code 0
import os
os._exit(0)

### exit-politely: ends as programs do
#=> SystemExit
import sys
sys.exit()

### abort: ends with a dump of its memory
#=> ended its process by signal
import os
os.abort()

### crash: reads where nothing is
#=> ended its process by signal 11
_, ctypes, _ = escape()
ctypes["string_at"](8)

### interrupt: raises what the interpreter ends by
#=> KeyboardInterrupt
raise KeyboardInterrupt

### lying-exception: raises an exception whose text is another failure
#=> Lie: <
class Lie(Exception):
    def __str__(self):
        return 1 / 0
raise Lie

### endless-exception: raises an exception whose text never ends
#=> used more than 1 seconds of CPU time or took longer than
class Endless(Exception):
    def __str__(self):
        while True:
            pass
raise Endless

### long-exception: raises an exception with a text of ten mebibytes
#=> Exception: xxx
raise Exception("x" * (10 << 20))
