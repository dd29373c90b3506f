"""tf.train.Example without TensorFlow.

Writers of records need one protocol buffer message of TensorFlow's. Importing TensorFlow for it would cost every
Beam worker six seconds and 400 MB, so the message is declared here (tensorflow/core/example/feature.proto and
example.proto, wire-compatible and frozen since 2015) in a descriptor pool of its own.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


def _example_class():
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(parent, name, *fields):
        added = parent.add(name=name)
        for number, (field, label, kind, type_name) in enumerate(fields, 1):
            added.field.add(name=field, number=number, label=label, type=kind, type_name=type_name)
        return added

    one, many = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    message(file.message_type, "BytesList", ("value", many, _Field.TYPE_BYTES, None))
    message(file.message_type, "FloatList", ("value", many, _Field.TYPE_FLOAT, None))
    message(file.message_type, "Int64List", ("value", many, _Field.TYPE_INT64, None))
    feature = message(
        file.message_type,
        "Feature",
        ("bytes_list", one, _Field.TYPE_MESSAGE, ".tensorflow.BytesList"),
        ("float_list", one, _Field.TYPE_MESSAGE, ".tensorflow.FloatList"),
        ("int64_list", one, _Field.TYPE_MESSAGE, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message(
        file.message_type,
        "Features",
        ("feature", many, _Field.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry"),
    )
    entry = message(
        features.nested_type,
        "FeatureEntry",
        ("key", one, _Field.TYPE_STRING, None),
        ("value", one, _Field.TYPE_MESSAGE, ".tensorflow.Feature"),
    )
    entry.options.map_entry = True
    message(file.message_type, "Example", ("features", one, _Field.TYPE_MESSAGE, ".tensorflow.Features"))

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()
