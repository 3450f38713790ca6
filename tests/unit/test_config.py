"""``config.pbtxt``: reading, defaults, refusals, and the JSON that a model gets."""

import json

import pytest

from triton_stub import config
from triton_stub.errors import ConfigError, StatusCode

INPUT = 'input { name: "I" data_type: TYPE_FP32 dims: [ -1 ] }\n'
OUTPUT = 'output { name: "O" data_type: TYPE_FP32 dims: [ -1 ] }\n'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    return path


def load(folder, text):
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return config.load(folder)


def printed(folder, text):
    return config.to_dict(load(folder, text))


def refusal(folder, text):
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    start, _, reason = str(caught.value).partition(": ")
    assert start == str(folder / "config.pbtxt")
    return reason


# Reading


def test_a_fault_is_told_with_file_line_and_column():
    text = 'backend: "python"\nmax_batch_sizes: 8\n'
    with pytest.raises(ConfigError) as caught:
        config.parse(text, source="models/m/config.pbtxt")
    assert str(caught.value).startswith("models/m/config.pbtxt:2:1 : ")
    assert 'no field named "max_batch_sizes"' in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("input { data_type: TYPE_FLOAT }", {"TYPE_FP32", "TYPE_STRING"}),
        ("instance_group { kind: CPU }", {"KIND_AUTO", "KIND_CPU"}),
        ("max_batch: 8", {"max_batch_size"}),
        ("sequence_batching { control_input { control { kin: 3 } } }", {"kind"}),
    ],
)
def test_a_wrong_name_is_told_with_the_right_ones(text, names):
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    expected = str(caught.value).partition("Expected one of ")[2].partition(";")[0]
    assert names <= set(expected.split(", "))


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size 8",
        'max_batch_size: "8"',
        "max_batch_size: 4294967296",
        "max_batch_size: 1\nmax_batch_size: 2",
        'input { name: "I" ',
        "input { data_type: TYPE_FLOAT }",
        "dynamic_batching { }\nsequence_batching { }",
    ],
)
def test_text_that_is_no_configuration(text):
    place = r"^config.pbtxt:\d+:\d+ : "
    with pytest.raises(ConfigError, match=place + r".* Expected (a ModelConfig|one of)"):
        config.parse(text)


def test_bytes_that_are_no_text(folder):
    (folder / "config.pbtxt").write_bytes(b'name: "\xff"')
    with pytest.raises(ConfigError, match=r"^cannot read .*m/config.pbtxt: 'utf-8'"):
        config.load(folder)


def test_a_model_needs_no_configuration(folder):
    loaded = config.to_dict(config.load(folder))
    assert (loaded["name"], loaded["backend"], loaded["input"]) == ("m", "python", [])


def test_another_file_name(folder):
    (folder / "other.pbtxt").write_text("max_batch_size: 3")
    assert config.load(folder, file_name="other.pbtxt").max_batch_size == 3


# Defaults


def test_what_a_minimal_configuration_becomes(folder):
    text = (
        'name: "m"\nbackend: "python"\nmax_batch_size: 8\n'
        'input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }\n'
        'output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }\n'
    )
    assert config.to_json(load(folder, text)) == (
        '{"name":"m","platform":"","backend":"python","runtime":"",'
        '"version_policy":{"latest":{"num_versions":1}},"max_batch_size":8,'
        '"input":[{"name":"IN","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[-1],'
        '"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,'
        '"is_non_linear_format_io":false}],'
        '"output":[{"name":"OUT","data_type":"TYPE_FP32","dims":[-1],"label_filename":"",'
        '"is_shape_tensor":false,"is_non_linear_format_io":false}],'
        '"batch_input":[],"batch_output":[],'
        '"optimization":{"priority":"PRIORITY_DEFAULT","input_pinned_memory":{"enable":true},'
        '"output_pinned_memory":{"enable":true},"gather_kernel_buffer_threshold":0,'
        '"eager_batching":false},'
        '"instance_group":[{"name":"m","kind":"KIND_CPU","count":1,"gpus":[],'
        '"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],'
        '"default_model_filename":"model.py","cc_model_filenames":{},"metric_tags":{},'
        '"parameters":{},"model_warmup":[]}'
    )


def test_the_preferred_batch_size_is_the_largest(folder):
    assert printed(folder, "max_batch_size: 8\ndynamic_batching { }")["dynamic_batching"] == {
        "preferred_batch_size": [8],
        "max_queue_delay_microseconds": 0,
        "preserve_ordering": False,
        "priority_levels": 0,
        "default_priority_level": 0,
        "priority_queue_policy": {},
    }


def test_a_preferred_batch_size_that_is_given_stays(folder):
    text = "max_batch_size: 8\ndynamic_batching { preferred_batch_size: [ 2, 4 ] }"
    assert printed(folder, text)["dynamic_batching"]["preferred_batch_size"] == [2, 4]


def test_without_batches_there_is_no_preferred_size(folder):
    assert printed(folder, "dynamic_batching { }")["dynamic_batching"]["preferred_batch_size"] == []


def test_instance_groups_get_names_kinds_and_counts(folder):
    text = 'instance_group [ { }, { name: "named" kind: KIND_MODEL count: 3 }, { count: -1 } ]'
    groups = printed(folder, text)["instance_group"]
    assert [(group["name"], group["kind"], group["count"]) for group in groups] == [
        ("m_0", "KIND_CPU", 1),
        ("named", "KIND_MODEL", 3),
        ("m_2", "KIND_CPU", 1),
    ]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", {"latest": {"num_versions": 1}}),
        ("version_policy { all { } }", {"all": {}}),
        ("version_policy { specific { versions: [ 3, 1 ] } }", {"specific": {"versions": [3, 1]}}),
        ("version_policy { }", {}),
    ],
)
def test_version_policy(folder, text, policy):
    assert printed(folder, text)["version_policy"] == policy


# Refusals


def test_the_name_is_that_of_the_folder(folder):
    assert refusal(folder, 'name: "other"') == (
        "unexpected directory name 'm' for model 'other', directory name must equal model name"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_batch_size: -1", "'max_batch_size' must be non-negative value for m"),
        ('platform: "python"', "unexpected platform type 'python' for m"),
        (
            "max_batch_size: 2 dynamic_batching { preferred_batch_size: 0 }",
            "dynamic batching preferred size must be positive for m",
        ),
        (
            "max_batch_size: 2 dynamic_batching { preferred_batch_size: 3 }",
            "dynamic batching preferred size must be <= max batch size for m",
        ),
        (
            "instance_group { kind: KIND_MODEL gpus: 0 }",
            "instance group m_0 of model m has kind KIND_MODEL but specifies one or more GPUs",
        ),
        (
            'instance_group { profile: "p" }',
            "instance group m_0 of model m and platform specifies profile field which is only "
            "supported for TensorRT models",
        ),
        ("instance_group { kind: 9 }", "instance group m_0 of model m has unexpected kind "
         "KIND_AUTO"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_refused(folder, text, reason):
    assert refusal(folder, text) == reason


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ("data_type: TYPE_FP32 dims: 1", "model input must specify 'name'"),
        ('name: "I" dims: 1', "model input 'I' must specify 'data_type'"),
        ('name: "I" data_type: TYPE_FP32', "model input 'I' must specify 'dims'"),
        (
            'name: "I" data_type: TYPE_FP32 dims: 0',
            "model input 'I' dimension must be integer >= 1, or -1 to indicate a variable-size "
            "dimension",
        ),
        (
            'name: "I" data_type: TYPE_FP32 dims: 1 reshape { shape: -2 }',
            "model input 'I' reshape dimensions must be integer >= 1, or -1 to indicate a "
            "variable-size dimension",
        ),
        (
            'name: "I" data_type: TYPE_FP32 dims: 1 reshape { }',
            "model input 'I' cannot have empty reshape for non-batching model as scalar tensors "
            "are not supported",
        ),
        (
            'name: "I" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 1, 2 ]',
            "model input NHWC/NCHW require 3 dims",
        ),
        (
            'name: "I" data_type: TYPE_FP32 dims: 1 is_shape_tensor: true',
            "shape tensors are only supported for TensorRT platform",
        ),
        (
            'name: "I" data_type: TYPE_FP32 dims: 1 is_non_linear_format_io: true',
            "Non-linear IO format is only supported for the TensorRT platform",
        ),
        (
            'name: "I" data_type: 99 dims: 1',
            "model input 'I' has data_type 99, which is no Triton datatype: the real server "
            "takes it, and then does not know what to do with requests. Name one.",
        ),
    ],
)
def test_an_input_that_is_refused(folder, tensor, reason):
    assert refusal(folder, f"{OUTPUT} input {{ {tensor} }}") == f"{reason} for m"


def test_an_output_is_checked_like_an_input(folder):
    assert refusal(folder, f"{INPUT} output {{ dims: 1 }}") == (
        "model output must specify 'name' for m"
    )


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ([1], []),
        ([4], [2, 2]),
        ([-1], [-1, 1]),
        ([2, 4, -1, 6], [8, -1, 1, 6]),
        ([-1, -1], [-1, 1, -1]),
    ],
)
def test_a_reshape_of_the_same_size(folder, dims, shape):
    text = f'name: "I" data_type: TYPE_FP32 dims: {dims} reshape {{ shape: {shape} }}'
    entry = printed(folder, f"max_batch_size: 2 input {{ {text} }}")["input"][0]
    assert entry["reshape"] == {"shape": shape}


@pytest.mark.parametrize(
    ("dims", "shape", "what"),
    [
        ([4], [3], "size"),
        ([3], [], "size"),
        ([-1, 2], [2], "size"),
        ([-1, 2], [-1, 3], "size"),
        ([2, -1, 3], [3, -1, 2], "size"),
        ([-1, -1], [-1], "number of variable-size dimensions"),
    ],
)
def test_a_reshape_of_another_size(folder, dims, shape, what):
    text = f'name: "I" data_type: TYPE_FP32 dims: {dims} reshape {{ shape: {shape} }}'
    assert refusal(folder, f"max_batch_size: 2 input {{ {text} }}") == (
        f"model input 'I' has different {what} for dims and reshape for m"
    )


def test_a_label_file_must_be_there(folder):
    text = 'output { name: "O" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" }'
    assert refusal(folder, text) == (
        f"failed to open text file for read {folder}/labels.txt: No such file or directory"
    )
    (folder / "labels.txt").write_text("zero\n")
    assert load(folder, text).output[0].label_filename == "labels.txt"


def test_a_label_file_is_in_the_model_s_directory(folder):
    (folder.parent / "labels.txt").write_text("zero\n")
    text = 'output { name: "O" data_type: TYPE_FP32 dims: 1 label_filename: "../labels.txt" }'
    assert refusal(folder, text) == (
        f"label file path '{folder}/../labels.txt' for output 'O' in model 'm' is outside model "
        "directory"
    )


@pytest.mark.parametrize("name", ["1" * 5000, r"a\000b"])
def test_a_label_file_of_a_name_that_no_file_can_have(folder, name):
    text = f'output {{ name: "O" data_type: TYPE_FP32 dims: 1 label_filename: "{name}" }}'
    assert refusal(folder, text).startswith(f"failed to open text file for read {folder}/")


def test_the_code_of_a_refusal_is_the_servers(folder):
    with pytest.raises(ConfigError) as invalid:
        load(folder, "max_batch_size: -1")
    assert invalid.value.code is StatusCode.INVALID_ARG
    with pytest.raises(ConfigError) as internal:
        load(folder, "instance_group { kind: 9 }")
    assert internal.value.code is StatusCode.INTERNAL


# JSON


def test_64_bit_numbers_are_numbers(folder):
    text = (
        'input { name: "I" data_type: TYPE_FP32 dims: 9223372036854775807 }'
        "dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }"
    )
    shown = printed(folder, text)
    assert shown["input"][0]["dims"] == [9223372036854775807]
    assert shown["dynamic_batching"]["max_queue_delay_microseconds"] == 18446744073709551615


def test_64_bit_numbers_that_the_server_leaves_as_text(folder):
    text = """
        sequence_batching { state {
            input_name: "I" output_name: "O" data_type: TYPE_FP32 dims: 1
            initial_state { data_type: TYPE_FP32 dims: 1 zero_data: true name: "n" }
        } }
        instance_group { secondary_devices { kind: KIND_NVDLA device_id: 3 } }
        optimization { cuda { graph_spec { input { key: "I" value { dim: 4 } } } } }
    """
    shown = printed(folder, text)
    state = shown["sequence_batching"]["state"][0]
    assert state["dims"] == [1]
    assert state["initial_state"][0]["dims"] == ["1"]
    assert shown["instance_group"][0]["secondary_devices"][0]["device_id"] == "3"
    assert shown["optimization"]["cuda"]["graph_spec"][0]["input"] == {"I": {"dim": ["4"]}}


def test_map_keys_are_text_in_order(folder):
    keys = ["10", "9", "100", "8", "11"]
    numbers = "".join(f"priority_queue_policy {{ key: {key} value {{ }} }}" for key in keys)
    texts = "".join(f'parameters {{ key: "{key}" value {{ }} }}' for key in keys)
    shown = printed(folder, f"max_batch_size: 1 dynamic_batching {{ {numbers} }} {texts}")
    assert list(shown["dynamic_batching"]["priority_queue_policy"]) == sorted(keys, key=int)
    assert list(shown["parameters"]) == sorted(keys)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("0.1", "0.1"),
        ("1", "1"),
        ("0.333333333", "0.333333343"),
        ("16777216", "16777216"),
        ("-0.5", "-0.5"),
        ("123456.789", "123456.789"),
        ("1e-10", "1e-10"),
    ],
)
def test_floats_have_the_digits_of_the_server(folder, number, shown):
    text = (
        "sequence_batching { control_input { name: 'S' control { kind: CONTROL_SEQUENCE_START "
        f"fp32_false_true: [ {number}, 1 ] }} }} }}"
    )
    control = printed(folder, text)["sequence_batching"]["control_input"][0]["control"][0]
    assert json.dumps(control["fp32_false_true"][:1]) == f"[{shown}]"


def test_the_json_has_no_blanks_and_keeps_letters(folder):
    text = 'parameters { key: "größe" value { string_value: "☃ \\"q\\"\\n" } }'
    assert '"parameters":{"größe":{"string_value":"☃ \\"q\\"\\n"}}' in config.to_json(
        load(folder, text)
    )


def test_what_is_not_set_is_absent_and_what_is_empty_is_there(folder):
    absent = printed(folder, INPUT)
    assert not {"dynamic_batching", "model_transaction_policy", "response_cache"} & set(absent)
    present = printed(folder, INPUT + "model_transaction_policy { }\nresponse_cache { }")
    assert present["model_transaction_policy"] == {"decoupled": False}
    assert present["response_cache"] == {"enable": False}


# When a repository is polled


def polled(folder, text, **how):
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return config.poll(folder, **how)


def poll_refusal(folder, text, **how):
    with pytest.raises(ConfigError) as caught:
        polled(folder, text, **how)
    return str(caught.value).removeprefix(f"{folder}/config.pbtxt: ")


@pytest.mark.parametrize(
    ("file", "backend"),
    [("model.py", "python"), ("model.onnx", "onnxruntime"), ("model.pt", "pytorch")],
)
def test_the_backend_is_told_by_the_file(folder, file, backend):
    (folder / "1").mkdir()
    (folder / "1" / file).touch()
    assert polled(folder, "").backend == backend
    assert polled(folder, f'default_model_filename: "{file}"').backend == backend


def test_the_first_folder_by_name_tells_the_backend(folder):
    for name in ("1", "2"):
        (folder / name).mkdir()
    (folder / "2" / "model.py").touch()
    assert poll_refusal(folder, "") == (
        "Invalid model name: Could not determine backend for model 'm' with no backend in model "
        "configuration. Expected model name of the form 'model.<backend_name>'. There is no file "
        f"{folder}/1/model.py."
    )


def test_the_folder_of_a_model_is_no_repository(tmp_path):
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.py").touch()
    assert poll_refusal(version, "").endswith(
        f"There is no file {version}/1/model.py. {tmp_path}/m is the folder of one model, not a "
        f"model repository: give the folder above it, {tmp_path}."
    )


def test_the_backend_is_told_by_the_name(tmp_path):
    folder = tmp_path / "m.python"
    folder.mkdir()
    loaded = polled(folder, "")
    assert (loaded.backend, loaded.default_model_filename) == ("python", "model.python")


def test_an_unknown_file_tells_no_backend(folder):
    text = 'default_model_filename: "other.py"'
    assert poll_refusal(folder, text) == "unexpected platform type '' for m"


def test_tensors_are_checked_when_a_strict_repository_is_polled(folder):
    text = 'name: "other" backend: "python" input { }'
    assert poll_refusal(folder, text).startswith("unexpected directory name")
    assert poll_refusal(folder, text, strict=True) == "model input must specify 'name' for other"


def test_a_strict_repository_needs_the_file(folder):
    with pytest.raises(ConfigError, match=r"failed to open .*config\.pbtxt"):
        config.poll(folder, strict=True)


def test_another_configuration_is_given_as_json(folder):
    given = '{"backend": "python", "max_batch_size": 3}'
    assert polled(folder, "nonsense", override=given).max_batch_size == 3
    for wrong in ("{", "[]", '{"x": 1}', '{"max_batch_size": -1, "backend": "python"}'):
        assert poll_refusal(folder, "", override=wrong).startswith("Invalid config override: ")


# JSON into a message


def from_json(**fields):
    return config.from_json(json.dumps(fields))


def test_json_that_the_server_prints_is_read(folder):
    text = f"{INPUT}{OUTPUT} max_batch_size: 4 dynamic_batching {{ }} parameters {{ key: 'a' }}"
    loaded = load(folder, text)
    assert config.from_json(config.to_json(loaded)) == loaded


@pytest.mark.parametrize(
    ("value", "dims"),
    [([2.0, "-1"], [2, -1]), (3, [3]), ([[1], [None, [2]]], [1, 2]), (None, []), ([], [])],
)
def test_dims_that_protobuf_reads(value, dims):
    assert from_json(input=[{"dims": value}]).input[0].dims == dims


@pytest.mark.parametrize("value", [2.5, True, "two", "2.0", " 2", 2**63, {}, float("inf")])
def test_dims_that_protobuf_refuses(value):
    with pytest.raises(ConfigError, match=r"input\[0\]\.dims\[0\] must be a whole number"):
        from_json(input=[{"dims": [value]}])


@pytest.mark.parametrize("value", ["TYPE_FP32", "type_fp32", 11, "11"])
def test_names_of_an_enum_in_any_case(value):
    assert from_json(input=[{"data_type": value}]).input[0].data_type == 11


@pytest.mark.parametrize(
    ("value", "read"), [(True, True), ("true", True), ("YES", True), ("0", False), ("f", False)]
)
def test_words_for_a_bool(value, read):
    assert from_json(input=[{"optional": value}]).input[0].optional is read


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nonsense": 1}, "there is no field nonsense; expected one of name, "),
        ({"input": [{"data_type": "FP32"}]}, "input[0].data_type must be a DataType, found 'FP32'"),
        ({"input": [{"optional": 1}]}, "input[0].optional must be true or false, found 1"),
        ({"name": 3}, "name must be a text, found 3"),
        ({"input": "A"}, "input[0] must be an object, found 'A'"),
        ({"parameters": []}, "parameters must be an object, found []"),
        ({"dynamic_batching": {}, "sequence_batching": {}}, "sequence_batching and "
         "dynamic_batching exclude each other"),
        ({"sequence_batching": {"direct": {"minimum_slot_utilization": "x"}}},
         "sequence_batching.direct.minimum_slot_utilization must be a number, found 'x'"),
    ],
)  # fmt: skip
def test_json_that_protobuf_refuses(fields, message):
    with pytest.raises(ConfigError) as caught:
        from_json(**fields)
    assert str(caught.value).startswith(message)


def test_maps_and_messages_in_json():
    read = from_json(
        parameters={"a": {"string_value": "b"}},
        metricTags={"c": "d"},
        dynamic_batching={"priority_queue_policy": {"3": {"max_queue_size": 1}}},
    )
    assert read.parameters["a"].string_value == "b"
    assert dict(read.metric_tags) == {"c": "d"}
    assert read.dynamic_batching.priority_queue_policy[3].max_queue_size == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "\\ud800"}',
        '{"name": "\udcff"}',
        '{"parameters": {"\udcff": {"string_value": "a"}}}',
        '{"name": ' + "[" * 100_000,
        '{"max_batch_size": ' + "1" * 5000 + "}",
    ],
    ids=["half a pair", "no UTF-8", "name that is no UTF-8", "nested", "long number"],
)
def test_json_that_is_no_text(text):
    with pytest.raises(ConfigError, match="expected a model configuration as JSON; "):
        config.from_json(text)


# Completion


def test_what_a_completed_configuration_keeps(folder):
    given = load(folder, f"{INPUT} max_batch_size: 2 parameters {{ key: 'a' }}")
    text = '{"max_batch_size": 8, "dynamic_batching": {}, "output": [{"name": "O"}], "name": "x"}'
    result = config.completed(given, text)
    assert (result.name, result.max_batch_size, len(result.input)) == ("m", 8, 0)
    assert result.output[0].name == "O"
    assert list(result.dynamic_batching.preferred_batch_size) == [8]
    assert "a" in result.parameters
    assert given.max_batch_size == 2


def test_a_completed_configuration_keeps_its_scheduler(folder):
    given = load(folder, "max_batch_size: 2 dynamic_batching { max_queue_delay_microseconds: 5 }")
    result = config.completed(given, '{"max_batch_size": 8, "dynamic_batching": {}}')
    assert result.dynamic_batching.max_queue_delay_microseconds == 5
    with pytest.raises(ConfigError, match="Cannot update scheduling choice from 11 to 11 when"):
        config.completed(given, '{"max_batch_size": 8}')
