### runner-by-frames: finds the runner behind its own frame, and replaces what looks over its prices
#=> priced 7
import sys
runner = sys._getframe().f_back.f_globals
runner["prices_of"] = lambda data, expected: ["7"] * len(data["usage"]["cpu"])

### replace-runner: takes away what every run begins with
#=> TypeError
runner, _, _ = escape()
for name in ("rated", "frame_of", "restrict", "serve", "read_exactly", "main"):
    runner[name] = None

### replace-json: replaces what writes the answer
#=> priced 7
import json
json.dumps = lambda message: '{"prices": ["7"]}'

### replace-decimal: replaces what numbers are made by
#=> Broken
class Broken(Exception):
    pass
def broken(*_):
    raise Broken
runner, _, _ = escape()
runner["decimal"].Decimal = broken

### poison-builtins: replaces what every program uses, for whoever comes next
#=> ended its process with code 70
import builtins
for name in ("len", "isinstance", "zip", "enumerate", "sorted", "dict", "list"):
    setattr(builtins, name, None)

### decimal-context: has numbers computed with one digit from now on
#=> priced 1
decimal.setcontext(decimal.Context(prec=1, traps=[]))
decimal.DefaultContext.prec = 1

### persist: leaves a word wherever one could be left, and looks for it
#=> priced 1
import builtins
import gc
import sys
places = [builtins, sys, decimal, gc, sys.modules["__main__"]]
assert not [place for place in places if hasattr(place, "left_by_a_script")]
for place in places:
    place.left_by_a_script = 1
assert not any(isinstance(one, dict) and "left in a heap" in one for one in gc.get_objects())
kept = {"left in a heap": 1}
kept["itself"] = kept

### import-again: clears the importer's way and imports what talks to the machine
#=> Error
import sys
sys.meta_path.clear()
sys.path.append("/usr/lib/python3")
import _ctypes_test

### trace: has the interpreter call it for every line of the runner
#=> priced 1
import sys
def spy(frame, event, argument):
    frame.f_globals["DENIED"] = ("nothing",)
    return spy
sys.settrace(spy)
sys.setprofile(spy)

### exit-handlers: asks to be called when the process ends
#=> priced 1
runner, ctypes, library = escape()
handler = lambda: None
ctypes["_sys"].modules.get("atexit") and ctypes["_sys"].modules["atexit"].register(handler)
