"""TensorFlow SavedModel folders, made into TFLite bytes by TensorFlow's converter in a process of its own.

A SavedModel is a program: its initialisers run when TensorFlow loads it, and its operators can read and write files. So
the graph is looked through first, as data. It is taken where all it has is arithmetic, variables, calls and the saver
that TensorFlow adds, and where nothing runs on loading; otherwise the error names the operator.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from attar.errors import ModelError

GRAPH = "saved_model.pb"
SECONDS = 1800
"""How long a conversion may take."""
CONVERT = """
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

VARIABLES = {
    "VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp", "Placeholder", "PartitionedCall",
    "StatefulPartitionedCall", "Assert", "DisableCopyOnRead", "VariableV2", "Variable", "If", "While",
}
SAVER = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}
FILES = {"ReadFile", "WriteFile", "MatchingFiles", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}


def refuse(why):
    print("attar: " + why, file=sys.stderr)
    sys.exit(3)


def check(graphs):
    if len(graphs) != 1:
        refuse(f"{len(graphs)} graphs where there must be one")
    graph = graphs[0]
    saver = {f.signature.name for f in graph.graph_def.library.function
             if f.signature.name.startswith(("__inference__traced_save_", "__inference__traced_restore_"))}
    places = [("", graph.graph_def.node)]
    places += [(f.signature.name, f.node_def) for f in graph.graph_def.library.function]
    for place, nodes in places:
        for node in nodes:
            known = op_def_registry.get(node.op)
            pure = known is not None and not known.is_stateful and node.op not in FILES | SAVER
            if not pure and node.op not in VARIABLES and not (node.op in SAVER and place in saver):
                refuse(f"the operator {node.op}, which may do more than compute")
            called = {value.func.name for value in node.attr.values() if value.HasField("func")}
            if place and called & saver:
                refuse("a function that calls the saver")
    names = {node.name: node for node in graph.graph_def.node}
    for start in ("__saved_model_init_op", "saved_model_main_op", "legacy_init_op"):
        for value in graph.collection_def[start].node_list.value if start in graph.collection_def else ():
            at = names.get(value.split(":")[0])
            if at is None or at.op != "NoOp" or at.input:
                refuse("an initialiser that runs on loading")
    for key, signature in graph.signature_def.items():
        if key == "__saved_model_init_op":
            for value in signature.outputs.values():
                at = names.get(value.name.split(":")[0])
                if at is None or at.op != "NoOp" or at.input:
                    refuse("an initialiser that runs on loading")
    serving = [key for key in graph.signature_def if key != "__saved_model_init_op"]
    if "serving_default" not in serving:
        refuse(f"the signatures {', '.join(serving) or 'none'}, without serving_default")


folder, out = sys.argv[1:]
saved = saved_model_pb2.SavedModel()
saved.ParseFromString(Path(folder, "saved_model.pb").read_bytes())
check(saved.meta_graphs)
try:
    data = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"]).convert()
except Exception:  # the state of an optimizer, say, which TensorFlow 2's loader does not make again
    data = tf.compat.v1.lite.TFLiteConverter.from_saved_model(folder, signature_key="serving_default").convert()
Path(out).write_bytes(data)
"""


def is_saved_model(model: object) -> bool:
    """Whether it is the path of a SavedModel folder."""
    return isinstance(model, Path) and (model / GRAPH).is_file()


def converted(folder: Path) -> bytes:
    """The signature serving_default as the bytes of a .tflite file; raises ModelError."""
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "model.tflite")
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-c", CONVERT, str(folder.resolve()), str(made)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=place,
                env={**os.environ, **quiet},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise _refusal(folder, f"no end of the conversion in {SECONDS} seconds") from error
        if done.returncode or not made.is_file():
            lines = done.stderr.splitlines()
            said = [line.removeprefix("attar: ") for line in lines if line.startswith("attar: ")]
            said = said or [line[:300] for line in lines if "Error" in line][-1:]
            raise _refusal(folder, said[0] if said else "no message")
        return made.read_bytes()


def _refusal(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"model {folder.name!r}: a SavedModel must hold arithmetic and one signature serving_default, and TensorFlow "
        f"must be able to convert it. Received: {why}. Install tensorflow-cpu where it is missing, or convert it "
        "yourself where you trust it (tf.lite.TFLiteConverter.from_saved_model), and pass the .tflite file."
    )


def files_of(folder: Path) -> list[Path]:
    """The graph and the values, which count for the size."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "fingerprint.pb")
