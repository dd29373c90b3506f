import pytest

from model.precision import choose_precision, policy_for


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((6, 1), "float32"),
        ((7, 0), "mixed_float16"),
        ((7, 5), "mixed_float16"),
        ((8, 0), "mixed_bfloat16"),
        ((8, 9), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
        ((10, 0), "mixed_bfloat16"),
    ],
)
def test_the_policy_is_what_the_gpu_has_in_hardware(capability, policy):
    assert policy_for(capability) == policy


def test_on_a_cpu_it_is_float32(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    assert choose_precision("auto") == ("float32", "no GPU")


@pytest.mark.parametrize("wanted", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_was_asked_for_is_taken(wanted):
    assert choose_precision(wanted) == (wanted, "asked for")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(8, 0), (7, 5)], ("mixed_float16", "compute capability 7.5")),
        ([(9, 0), (8, 6)], ("mixed_bfloat16", "compute capability 8.6")),
        ([None], ("float32", "compute capability 0.0")),
    ],
)
def test_the_weakest_gpu_decides(monkeypatch, capabilities, expected):
    def details(gpu):
        return {} if gpu is None else {"compute_capability": gpu}

    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: capabilities)
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", details)
    assert choose_precision("auto") == expected
