"""Files that attempt to execute code, with every suitable name and opcode."""

from tests.weights.formats.cases import EVIL, MARKER, RUN, WRITE, add, add_pickle
from tests.weights.formats.forge import (
    call,
    many,
    name,
    nemo,
    number,
    script,
    storage,
    table,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    whole,
)

# Names and opcodes that execute code

for _function, _argument in {
    "os.system": RUN,
    "posix.system": RUN,
    "nt.system": RUN,
    "subprocess.Popen": RUN,
    "subprocess.check_output": RUN,
    "commands.getoutput": RUN,
    "builtins.eval": WRITE,
    "builtins.exec": WRITE,
    "builtins.open": text(MARKER),
    "builtins.getattr": name("builtins.list") + text("append"),
    "builtins.__import__": text("os"),
    "__builtin__.eval": WRITE,
    "importlib.import_module": text("os"),
    "runpy.run_path": text(MARKER),
    "functools.partial": name("builtins.print"),
    "operator.attrgetter": text("system"),
    "pickle.loads": b"C\x00",
    "ctypes.CDLL": text("libc.so.6"),
    "pty.spawn": RUN,
    "webbrowser.open": text("http://localhost"),
    "timeit.timeit": WRITE,
    "cProfile.run": WRITE,
    "code.interact": WRITE,
    "shutil.rmtree": text("nowhere"),
    "socket.create_connection": text("localhost"),
    "multiprocessing.util.spawnv_passfds": RUN,
    "typing.get_type_hints": WRITE,
}.items():
    add_pickle(f"call of {_function}", call(_function, _argument), _function.replace("__builtin__", "builtins"))

for _function in (
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.utils.collect_env.run",
    "torch.storage._load_from_bytes",
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "pip.main",
    "__main__.evil",
    "joblib.load",
    "torch._dynamo.guards.GuardBuilder.get",
    "torch.classes.load_library",
    "torch.utils._config_module.ConfigModule.load_config",
):
    add_pickle(f"call of {_function}", call(_function, RUN), "no code from a file is executed|nested file")

add_pickle(
    "a type that numpy lacks",
    call(
        "torch._utils._rebuild_tensor_v3",
        *(storage(), number(0), many([]), many([]), b"\x89"),
        *(call("collections.OrderedDict"), name("torch.complex32")),
    ),
    "torch.complex32.*save it as another type",
)

# The message contains the called name for any arguments.
for _function, *_arguments in (
    ("torch.storage._load_from_bytes", number(1)),
    ("_codecs.encode", text("x"), text("zip")),
    ("_codecs.encode", number(1)),
    ("copyreg._reconstructor", number(1), number(2), number(3)),
    ("copy_reg._reconstructor", name("torch.Tensor"), name("builtins.dict"), text("x")),
    ("builtins.complex", text("x"), text("y")),
    ("torch._utils._rebuild_tensor_v2", number(1)),
    ("torch._utils._rebuild_sparse_tensor", number(1)),
):
    _says = _function.replace("copy_reg", "copyreg")
    add_pickle(f"{len(_arguments)} odd arguments of {_function}", call(_function, *_arguments), _says)

add_pickle("STACK_GLOBAL", text("os") + text("system") + b"\x93" + many([RUN]) + b"R", "os.system")
add_pickle("STACK_GLOBAL through torch", text("torch") + text("os.system") + b"\x93" + many([RUN]) + b"R", "os.system")
add_pickle(
    "STACK_GLOBAL through a class", text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93", "Ordered"
)
add_pickle("STACK_GLOBAL of numbers", number(1) + number(2) + b"\x93", "not text")
add_pickle("GLOBAL with a path", b"c../../evil\nrun\n" + many([]) + b"R", "not the name of a class")
add_pickle("GLOBAL with nothing", b"c\n\n", "not the name of a class")
add_pickle("GLOBAL with a blank", b"ctorch \nload\n", "not the name of a class")
add_pickle("GLOBAL without end", b"c" + b"a" * 5000, "a line of more than")
add_pickle("a standard function as a value", name("os.system"), "os.system")
add_pickle("a standard function as a key", b"}" + name("os.system") + b"Ns", "os.system")
add_pickle("a standard function in defaultdict", call("collections.defaultdict", name("os.system")), "os.system")
add_pickle("INST", b"(" + RUN + b"ios\nsystem\n", "os.system")
add_pickle("INST of a user's class", b"(" + RUN + b"ievil\nRun\n", "no code from a file is executed")
add_pickle("OBJ", b"(" + name("os.system") + RUN + b"o", "os.system")
add_pickle("OBJ of a user's class", b"(" + name("evil.Run") + RUN + b"o", "no code from a file is executed")
add_pickle("NEWOBJ of a standard class", name("subprocess.Popen") + many([RUN]) + b"\x81", "subprocess.Popen")
add_pickle("NEWOBJ of a type", name("builtins.type") + many([text("T"), b")", b"}"]) + b"\x81", "builtins.type")
add_pickle("NEWOBJ_EX", name("subprocess.Popen") + many([]) + table({"args": RUN}) + b"\x92", "subprocess.Popen")
add_pickle("NEWOBJ of what is no class", text("x") + b")\x81", "not a class")
add_pickle("REDUCE of what is no function", text("x") + b")R", "not a function")
add_pickle("REDUCE of a tensor", tensor() + b")R", "not a function")
add_pickle("REDUCE with a list", name("collections.OrderedDict") + b"]R", "not a function")
add_pickle("REDUCE from the memo", name("posix.system") + b"q\x070h\x07" + many([RUN]) + b"R", "posix.system")
add_pickle(
    "_reconstructor", call("copyreg._reconstructor", name("subprocess.Popen"), name("builtins.object"), b"N"), "Popen"
)
add_pickle("copy_reg.__newobj__", call("copy_reg.__newobj__", name("evil.Run")), "copyreg.__newobj__")
add_pickle(
    "rebuilding by another function",
    call("torch._tensor._rebuild_from_type_v2", name("torch.load"), name("torch.Tensor"), many([RUN]), b"N"),
    "torch.load",
)
add_pickle("BUILD of a class", name("torch.Tensor") + table({"__init__": RUN}) + b"b", "sets attributes")
add_pickle(
    "BUILD of a function", name("torch._utils._rebuild_tensor_v2") + table({"__code__": RUN}) + b"b", "sets attrib"
)
add_pickle("BUILD of a list", b"]" + table({"x": RUN}) + b"b", "sets attributes")
add_pickle("BUILD of a tensor", tensor() + table({"data": RUN}) + b"b", "sets attributes")
add_pickle("BUILD with slots", name("torch.Tensor") + many([b"N", table({"__class__": RUN})]) + b"b", "sets attributes")
add_pickle("items set on a class", name("torch.Tensor") + text("x") + RUN + b"s", "not a dict")
add_pickle("items appended to a tensor", tensor() + RUN + b"a", "not a list")
add_pickle("items added to a list", b"](" + RUN + b"\x90", "not a set")
for _code, _argument in {"EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00"}.items():
    add_pickle(_code, _argument, "outside the file")
add_pickle("PERSID", b"Pevil\n", "outside the file")
add_pickle("NEXT_BUFFER", b"\x97", "outside the file")
add_pickle(
    "persistent id of another kind", many([text("module"), name("evil.Net"), text("a.py"), WRITE]) + b"Q", "not read"
)
add_pickle("persistent id that is text", RUN + b"Q", "not read")
add_pickle("storage of another class", storage(kind="evil.FloatStorage"), "not one of torch's")
add_pickle(
    "inline numpy objects", call("numpy.core.multiarray.scalar", call("numpy.dtype", text("O8")), b"C\x00"), "of type"
)
add_pickle("protocol 9", b"\x80\x09N", "protocol 9")
add_pickle("unknown opcode", b"\xff", "where an opcode should be")
add_pickle("empty stack", b"0" * 100, "an empty stack")
add_pickle("unknown memo", b"h\x63", "not in the memo")

add("call in constants.pkl", lambda: script(constants=many([EVIL])), "posix.system")
add(
    "call in the attributes of a module",
    lambda: script(name("__torch__.Net") + b")\x81" + table({"x": EVIL}) + b"b"),
    "posix",
)
add("call in a NeMo file", lambda: nemo(torch_zip(EVIL)), "model_weights.ckpt: .*posix.system")
add("call in a gzipped NeMo file", lambda: nemo(torch_legacy(EVIL), zip_it=True), "posix.system")
add("call in a legacy file", lambda: torch_legacy(EVIL), "posix.system")
add("call before the magic number", lambda: whole(EVIL), "a pickle that torch did not write")
for _index, _what in enumerate(("version", "system", "value", "keys"), 1):
    add(f"call in a legacy file's {_what}", lambda index=_index: _evil_legacy(index), "posix.system")


def _evil_legacy(index: int) -> bytes:
    parts = [number(0x1950A86A20F9469CFC6C), number(1001), b"}", b"}", b"]"]
    parts[index] = EVIL
    return b"".join(map(whole, parts))
