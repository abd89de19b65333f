"""What a Python process of `pyscripts` runs: it waits for work on stdin and answers on stdout.

A message to it is a letter for what to do, its length, the greatest length of an answer (4 bytes each, big-endian) and
JSON; one from it a length and JSON. Scripts never run in this process: each run is a child made by fork, so that nothing a script does to its
interpreter outlives the run. The child reads the message itself, so that nothing of one run is in the memory of the
next; it limits itself before the first line of a script, has one open file, the pipe it answers on, and can open no
other.

Needs CPython 3.9 or newer, nothing but its standard library.
"""

import _strptime  # noqa: F401  (else `datetime.strptime` would want to import it later)
import copy
import datetime
import decimal
import gc
import importlib
import json
import linecache
import mmap
import re
import resource
import select
import time
import traceback
import warnings

TRACEBACK_SIZE_MAX = 8 * 1024
MESSAGE_SIZE_MAX = 1024
# Time for a child to read its message.
READING_SECS_MAX = 5
# Since Linux 4.14.
MADV_WIPEONFORK = 18
# The first byte of a child: it has read its message. No script has run before.
READY = b"!"
# Where a child answers; 0 to 2 are the null device.
ANSWERS = 3
# Prices are kept with that many digits after the point; more are rounded, half to even.
SCALE_MAX = 28
EXPONENT_MAX = 28
# 96 bits: 28 digits always fit.
COEFFICIENT_MAX = (1 << 96) - 1

DENIED = (
    "ctypes.", "fcntl.", "ftplib.", "http.", "mmap.", "open", "os.chdir", "os.chmod", "os.chown", "os.exec", "os.fork",
    "os.kill", "os.link", "os.lockf", "os.mkdir", "os.posix_spawn", "os.putenv", "os.remove", "os.rename", "os.rmdir",
    "os.spawn", "os.symlink", "os.system", "os.truncate", "os.unsetenv", "os.utime", "pty.", "resource.", "shutil.",
    "signal.", "smtplib.", "socket.", "sqlite3.", "subprocess.", "syslog.", "tempfile.", "urllib.",
)


def main():
    limits = json.loads(sys.argv[1])
    close_inherited()
    # The folder was made for this process. Gone, it is as empty as can be, and nobody has to remove it later.
    folder = os.getcwd()
    os.rmdir(folder)
    offer_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    limit(resource.RLIMIT_AS, limits["memory_bytes"])
    # As the first process of its world it is deaf to all signals from inside but those it handles: none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    for name in limits["modules"]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            answer({"error": {"message": "cannot import `%s` of `modules`: %s" % (name, error)}})
            return
    warm_up()
    null = os.open(os.devnull, os.O_RDWR)
    kernel, missing = contained(limits, os.path.dirname(folder))
    answer({"version": list(sys.version_info[:3]), "missing": missing})
    serve(Worker(limits, kernel, null))


def serve(worker):
    codes = []
    gc.collect()
    gc.freeze()
    while True:
        head = read_exactly(9)
        if head is None:
            return
        operation, size, answer_size_max = struct.unpack(">cII", head)
        if operation == b"L":
            linecache.clearcache()
            done = attempt(lambda: {"codes": [compiled(script) for script in json.loads(read_exactly(size))]})
            codes = done.pop("codes", [])
            answer(done)
        elif operation == b"C":
            worker.run_apart(checked, size, answer_size_max)
        else:
            worker.run_apart(lambda request: rated(codes, request), size, answer_size_max)


def warm_up():
    """Lets the standard library load what it loads when the first traceback is made: a script's run cannot."""
    for file in ("<string>", "<warm up>"):
        text = "(1 +\n 0 / 0)"
        linecache.cache["<warm up>"] = (len(text), None, text.splitlines(True), "<warm up>")
        try:
            exec(compile(text, file, "exec"), {})
        except ZeroDivisionError:
            traceback.format_exc()
        linecache.clearcache()


def limit(what, most):
    """Lowers a limit; one that is lower already stays."""
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY and hard < most:
        most = hard
    resource.setrlimit(what, (most, most))


def close_inherited():
    """What another plugin of the daemon forgot to close is no business of ours."""
    try:
        open_files = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        open_files = range(3, 4096)
    for number in open_files:
        if number > 2:
            try:
                os.close(number)
            except OSError:
                pass


def read_exactly(size):
    parts = []
    while size > 0:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def framed(message):
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def write_all(number, message):
    left = memoryview(message)
    while left:
        left = left[os.write(number, left):]


def answer(message):
    write_all(1, framed(message))


def compiled(script):
    """The code of a script; a text that is none raises what `compile` raises."""
    name, text = script["name"], script["data"]
    file = "<%s>" % name
    code = compile(text, file, "exec", dont_inherit=True)
    # Tracebacks show lines from here.
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    return name, code


def checked(script):
    return attempt(lambda: compiled(script) and {})


def attempt(work):
    try:
        return work()
    except BaseException as error:
        return {"error": described(None, error)}


def described(script, error):
    """An exception for people. Even its own text may be a script's doing."""
    about = {"script": script, "line": None, "message": "", "traceback": ""}
    try:
        if isinstance(error, SyntaxError):
            about["line"] = error.lineno
            about["message"] = str(error.msg)
        elif isinstance(error, Tampered):
            about["message"] = str(error)
        else:
            about["message"] = "".join(traceback.format_exception_only(type(error), error)).strip()
        if script is not None and not isinstance(error, Tampered):
            # The first frame is ours.
            frames = error.__traceback__.tb_next
            own = [frame for frame in traceback.extract_tb(frames) if frame.filename == "<%s>" % script]
            about["line"] = own[-1].lineno if own else None
            lines = traceback.format_exception(type(error), error, frames)
            about["traceback"] = "".join(lines)[-TRACEBACK_SIZE_MAX:]
    except BaseException:
        pass
    about["message"] = (about["message"] or type(error).__name__)[:MESSAGE_SIZE_MAX]
    return about


class Worker:
    """Runs what needs no trust, each time in a child of its own."""

    def __init__(self, limits, kernel, null):
        self.limits, self.kernel, self.null = limits, kernel, null
        self.process = os.getpid()
        # The answers pass through here and nowhere else. In children it is empty, or not there.
        place = mmap.mmap(-1, 4 + limits["answer_bytes"], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            place.madvise(MADV_WIPEONFORK)
        except OSError:
            place.madvise(mmap.MADV_DONTFORK)
        self.reply = memoryview(place)

    def run_apart(self, work, size, answer_size_max):
        """Passes on the answer of a child that does the work, or tells what became of it."""
        reply = self.reply[:4 + answer_size_max]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self.in_child(work, size, reader, writer)
        os.close(writer)
        filled, reason = self.read_reply(reader, reply)
        os.close(reader)
        # Not waited for yet, it has its number still, even if it has ended.
        os.kill(child, signal.SIGKILL)
        if reason is None and is_whole(reply, filled):
            # Its end need not be waited for.
            write_all(1, reply[:size_of(reply, filled)])
            os.waitpid(child, 0)
        else:
            status = os.waitpid(child, 0)[1]
            answer({"error": {"message": reason or end_of(status, self.limits)}})

    def read_reply(self, reader, reply):
        """Reads the child's message; its size so far, and why it is given up, if it is."""
        waiting = select.poll()
        waiting.register(reader, select.POLLIN)
        # Asked for nothing, it tells that the daemon is gone.
        waiting.register(0, 0)
        wait(waiting, reader, time.monotonic() + READING_SECS_MAX)
        if os.read(reader, 1) != READY:
            # Who knows how much of the message is left? There is no next one then.
            os._exit(70)
        end = time.monotonic() + self.limits["wall_secs"]
        filled = 0
        while not is_whole(reply, filled):
            if size_of(reply, filled) > len(reply):
                return filled, "answered more than %d bytes" % (len(reply) - 4)
            if not wait(waiting, reader, end):
                return filled, "took longer than %d seconds (`wall_secs`)" % self.limits["wall_secs"]
            size = os.readv(reader, [reply[filled:]])
            if size == 0:
                break
            filled += size
        return filled, None

    def in_child(self, work, size, reader, writer):
        try:
            os.close(reader)
            if self.kernel is not None:
                self.kernel.die_with(self.process)
            body = read_exactly(size)
            for number in (0, 1, 2):
                os.dup2(self.null, number)
            os.dup2(writer, ANSWERS)
            os.closerange(ANSWERS + 1, 64)
            restrict(self.limits)
            if self.kernel is not None and self.kernel.filters:
                self.kernel.filter_calls()
            write_all(ANSWERS, READY)
            message = attempt(lambda: work(json.loads(body, parse_float=decimal.Decimal)))
            write_all(ANSWERS, framed(message))
        except BaseException:
            os._exit(70)
        os._exit(0)


def wait(waiting, reader, end):
    """Whether there is something to read before the end of patience. Without the daemon there is nothing to do."""
    ready = waiting.poll(max(0, int((end - time.monotonic()) * 1000)))
    if any(number == 0 for number, _ in ready):
        os._exit(0)
    return bool(ready)


def size_of(reply, filled):
    """Bytes of a message, by its head; the head's own before that is there."""
    return 4 + struct.unpack(">I", reply[:4])[0] if filled >= 4 else 4


def is_whole(reply, filled):
    return filled > 4 and filled >= size_of(reply, filled)


def end_of(status, limits):
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return "used more than %d seconds of CPU time (`cpu_secs`)" % limits["cpu_secs"]
        return "ended its process by signal %d" % number
    return "ended its process with code %d" % os.WEXITSTATUS(status)


def restrict(limits):
    """Takes away what a script has no need of. The order matters: what is gone is not missed below."""
    # The signal at the first says why, the second ends what ignores it.
    limit(resource.RLIMIT_CPU, limits["cpu_secs"] + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_secs"], resource.getrlimit(resource.RLIMIT_CPU)[1]))
    limit(resource.RLIMIT_NPROC, 0)
    limit(resource.RLIMIT_NOFILE, 0)
    sys.meta_path.insert(0, NothingMore())
    sys.addaudithook(refuse)


class NothingMore:
    """Says what to do about a module that is not there."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        raise ImportError("scripts cannot import `%s`: it is not among the `modules` of [rating.pyscripts]" % name)


def refuse(event, arguments):
    """A clear word where a limit would give an obscure one; the limits are the wall."""
    if event.startswith(DENIED):
        raise PermissionError("scripts may not do that (`%s`)" % event)


def rated(codes, request):
    """The price of each point as a text, after all scripts; or what is wrong with one of them."""
    # Points hold no cycles: looking for some among all of them would cost more than making them.
    gc.disable()
    data = frame_of(request, list(points_of(request)))
    gc.freeze()
    gc.enable()
    for name, code in codes:
        scope = {"__name__": "__main__", "data": data}
        try:
            exec(code, scope)
            data = scope.get("data")
            prices = prices_of(data, request)
        except BaseException as error:
            return {"error": described(name, error)}
    return {"prices": prices}


def frame_of(request, points):
    period = {"begin": moment(request["begin_secs"]), "end": moment(request["end_secs"])}
    return {"period": period, "usage": {request["metric"]: points}}


def moment(seconds):
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=seconds)


def points_of(request):
    unit, number = request["unit"], decimal.Decimal
    attributes = mixed_attributes if request["has_json"] else text_attributes
    groupby_names, metadata_names = request["groupby"], request["metadata"]
    for qty, price, groupby, metadata in request["points"]:
        yield {
            "vol": {"unit": unit, "qty": number(qty)},
            "rating": {"price": number(price)},
            "groupby": attributes(groupby_names, groupby),
            "metadata": attributes(metadata_names, metadata),
        }


def text_attributes(names, values):
    """A value is a text, or `None` where the point has no such attribute."""
    found = dict(zip(names, values))
    return {name: value for name, value in found.items() if value is not None} if None in values else found


def mixed_attributes(names, values):
    """The same where a value may be JSON too: then it is a list of one. Each point gets one of its own."""
    pairs = ((name, value) for name, value in zip(names, values) if value is not None)
    return {name: copy.deepcopy(value[0]) if isinstance(value, list) else value for name, value in pairs}


class Tampered(Exception):
    """A script may change prices and nothing else."""


def prices_of(data, request):
    if not isinstance(data, dict) or not isinstance(data.get("usage"), dict):
        raise Tampered("left no dictionary with `usage` in `data`")
    metric, count = request["metric"], len(request["points"])
    expected = frame_of(request, None)
    if set(data) != set(expected) or data["period"] != expected["period"]:
        raise Tampered("changed `data` beside `usage`; it may change prices only")
    if list(data["usage"]) != [metric]:
        raise Tampered("added or dropped a metric; it may change prices only")
    points = data["usage"][metric]
    if not isinstance(points, (list, tuple)) or len(points) != count:
        left = len(points) if isinstance(points, (list, tuple)) else 0
        raise Tampered("left %d points of `%s` where there were %d; it may change prices only" % (left, metric, count))
    pairs = enumerate(zip(points, points_of(request)))
    return [price_of(found, wanted, (index, metric)) for index, (found, wanted) in pairs]


def price_of(found, wanted, place):
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise Tampered("added or dropped a part of point %d of `%s`; it may change prices only" % place)
    for part in ("vol", "groupby", "metadata"):
        if found[part] != wanted[part]:
            raise Tampered("changed `%s` of point %d of `%s`, or the order of points; it may change prices only"
                           % (part, *place))
    rating = found["rating"]
    if not isinstance(rating, dict) or "price" not in rating:
        raise Tampered("left no price in `rating` of point %d of `%s`" % place)
    return price_text(rating["price"], "point %d of `%s`", place)


# A decimal that is written without an exponent, in so few characters that nothing of it can be too much.
SHORT = re.compile("-?[0-9]+(?:[.][0-9]+)?")
SHORT_SIZE_MAX = 28
EXACT = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation])


def price_text(price, where, place):
    if type(price) is decimal.Decimal:
        text = str(price)
        if len(text) <= SHORT_SIZE_MAX and SHORT.fullmatch(text):
            return without_zeros(text)
    where %= place
    try:
        if isinstance(price, bool) or not isinstance(price, (int, float, str, decimal.Decimal)):
            raise decimal.InvalidOperation
        # A float is the shortest decimal that it is written as.
        number = decimal.Decimal(repr(price) if isinstance(price, float) else price)
    except decimal.InvalidOperation:
        raise Tampered("made the price of %s %.60r, which is no number" % (where, price)) from None
    if not number.is_finite():
        raise Tampered("made the price of %s %s, which is no number" % (where, number))
    if number.adjusted() > EXPONENT_MAX:
        raise Tampered("made the price of %s too large" % where)
    if number.as_tuple().exponent < -SCALE_MAX:
        number = number.quantize(decimal.Decimal((0, (1,), -SCALE_MAX)), context=EXACT)
    text = without_zeros(format(number, "f"))
    if int(text.lstrip("-").replace(".", "")) > COEFFICIENT_MAX:
        raise Tampered("made the price of %s %s, which has too many digits" % (where, text))
    return text


def without_zeros(text):
    return text.rstrip("0").rstrip(".") if "." in text else text


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        pass
