# Comes before every hostile script of this folder. All points are priced; then, for one scope, the script follows.
import decimal

for point in data["usage"]["cpu"]:
    point["rating"]["price"] = 1
price = data["usage"]["cpu"][0]["rating"]


def escape():
    """Everything that the interpreter has: names of the runner, whose words are silenced, and the C library."""
    ctypes = [one for one in ().__class__.__base__.__subclasses__() if one.__name__ == "CDLL"][0].__init__.__globals__
    runner = ctypes["_sys"].modules["__main__"].__dict__
    runner["DENIED"] = ("nothing",)
    return runner, ctypes, ctypes["CDLL"](None, use_errno=True)


def must(name, *arguments):
    """Calls a function of the C library and raises what the kernel said."""
    runner, ctypes, library = escape()
    function = getattr(library, name)
    function.restype = ctypes["c_long"] if name == "syscall" else ctypes["c_int"]
    result = function(*arguments)
    if result == -1:
        number = ctypes["get_errno"]()
        raise OSError(number, runner["os"].strerror(number))
    return result


def answer(message):
    """Writes to the pipe that the run's answer goes through."""
    runner, _, _ = escape()
    runner["os"].write(3, message)


def framed(text):
    return len(text).to_bytes(4, "big") + text
