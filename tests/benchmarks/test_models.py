"""Arithmetic and memory of a network, counted by hand."""

from tensorflow import keras

from benchmarks.models import count_activations, count_flops


def a_network() -> keras.Model:
    """Returns a network with another one inside, of images of 3 channels."""
    inner = keras.Input([None, None, 4])
    encoder = keras.Model(inner, keras.layers.Conv2D(6, 1, strides=2)(keras.layers.ReLU()(inner)))
    images = keras.Input([None, None, 3])
    x = keras.layers.Conv2D(4, 3, padding="same")(images)
    x = keras.layers.Conv2DTranspose(5, 2, strides=2)(encoder(x))
    return keras.Model(images, keras.layers.Dense(2)(x))


def test_flops_are_two_for_each_weight_and_pixel_it_is_used_at():
    first = 2 * 8 * 8 * (3 * 3 * 3 * 4)
    strided = 2 * 4 * 4 * (4 * 6)
    transposed = 2 * 4 * 4 * (2 * 2 * 6 * 5)
    dense = 2 * 8 * 8 * (5 * 2)
    assert count_flops(a_network(), 8) == first + strided + transposed + dense


def test_activations_are_what_all_layers_give_out():
    convolution, relu, strided, transposed, dense = 8 * 8 * 4, 8 * 8 * 4, 4 * 4 * 6, 8 * 8 * 5, 8 * 8 * 2
    assert count_activations(a_network(), 8) == convolution + relu + strided + transposed + dense


def test_counting_leaves_the_network_as_it_was():
    model = a_network()
    calls = [layer.call for layer in model.submodules if isinstance(layer, keras.layers.Layer)]
    count_flops(model, 8)
    count_activations(model, 8)
    assert [layer.call for layer in model.submodules if isinstance(layer, keras.layers.Layer)] == calls
