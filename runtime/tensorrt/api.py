"""Names for TensorRT's types, so that code says which of its objects a variable contains.

TensorRT's bindings have no stubs that fit every release, so to a type checker each is ``Any``.
``tests/test_tensorrt_api.py`` reads these annotations and compares every name that the code uses
with what five releases have.
"""

from typing import Any, TypeAlias

#: The module, ``tensorrt`` or ``tensorrt_rtx``.
Library: TypeAlias = Any

Builder: TypeAlias = Any
IBuilderConfig: TypeAlias = Any
ICudaEngine: TypeAlias = Any
EngineInspector: TypeAlias = Any
IExecutionContext: TypeAlias = Any
ILayer: TypeAlias = Any
INetworkDefinition: TypeAlias = Any
IOptimizationProfile: TypeAlias = Any
IRuntimeConfig: TypeAlias = Any
ISerializationConfig: TypeAlias = Any
ITensor: TypeAlias = Any
ITimingCache: TypeAlias = Any
OnnxParser: TypeAlias = Any
OnnxParserRefitter: TypeAlias = Any
ParserError: TypeAlias = Any
Refitter: TypeAlias = Any
Runtime: TypeAlias = Any
