"""Are the networks the ones that they are named after?"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from hwsim.errors import HwsimError
from hwsim.workload import Phase, freeze, macs, training_graph
from hwsim_models import MODELS, build

#: Parameters and forward MACs per sample. digits-mlp, LeNet-5: by hand. ResNet-18 for CIFAR-10: kuangliu/pytorch-cifar,
#: 11,173,962 parameters, 0.56 GMACs. ResNet-50: torchvision resnet50, 25,557,032 parameters, 4.09 GMACs. ResNet-9: the
#: tutorial form has 6,575,370 parameters, of which 2,240 are biases of convolutions that ours has not;
#: its MACs are five times 75,497,472 (conv2, res1, conv3, conv4, res2), 1,769,472 of the stem and 5,120 of fc.
#: digits-cnn, digits-resnet: by hand, written out below.
GOLDEN = {
    "digits-mlp": (2_410, 2_368),
    # conv1 9·1·16 + 2·16, conv2 9·16·32 + 2·32, fc 128·10 + 10; MACs at 64 and 16 pixels.
    "digits-cnn": (176 + 4_672 + 1_290, 64 * 144 + 16 * 4_608 + 1_280),
    # Stem, three blocks (two 3×3, from the second on a 1×1, with batchnorm), fc; at 64, 64, 16 and 4 pixels.
    "digits-resnet": (88 + 1_184 + 3_680 + 14_528 + 330, 64 * (72 + 1_152) + 16 * 3_584 + 4 * 14_336 + 320),
    "lenet": (62_006, 651_720),
    "resnet9": (6_575_370 - 2_240, 379_261_952),
    "resnet18": (11_173_962, 555_422_720),
    "resnet50": (25_557_032, 4_089_184_256),
}


def macs_by_phase(model: str, batch: int, frozen: tuple[str, ...] = ()) -> Counter[Phase]:
    step = training_graph(freeze(build(model, batch), frozen))
    counts: Counter[Phase] = Counter()
    for op in step.ops:
        counts[op.phase] += macs(op, step)
    return counts


def test_every_model_has_a_golden_number() -> None:
    assert list(GOLDEN) == list(MODELS)


@pytest.mark.parametrize("model", GOLDEN)
def test_parameters_and_forward_macs(model: str) -> None:
    parameters, forward = GOLDEN[model]
    graph = build(model, batch=4)
    assert (graph.name, graph.batch, graph.parameters) == (model, 4, parameters)
    assert macs_by_phase(model, batch=4)[Phase.FORWARD] == 4 * forward
    assert macs_by_phase(model, batch=4)[Phase.WGRAD] == 4 * forward
    assert f"{parameters:,}" in (MODELS[model].build.__doc__ or "")
    assert f"{forward:,}" in (MODELS[model].build.__doc__ or "")


def test_resnet18_step_macs() -> None:
    """Three GEMMs a layer, but no dgrad into the image: 3 · 555,422,720 − 32² · 3 · 64 · 9."""
    counts = macs_by_phase("resnet18", batch=1)
    assert counts[Phase.DGRAD] == 553_653_248
    assert counts.total() == 1_664_498_688


def test_resnet18_step_macs_with_stem_and_first_stage_frozen() -> None:
    assert macs_by_phase("resnet18", 1, ("conv1", "bn1", "layer1")).total() == 1_339_767_808


def test_names_are_those_of_torchvision() -> None:
    tensors = build("resnet50", 1).tensors
    assert tensors["conv1.weight"].shape == (64, 7, 7, 3)
    assert tensors["layer1.0.downsample.conv.weight"].shape == (256, 1, 1, 64)
    assert tensors["layer4.2.conv2.weight"].shape == (512, 3, 3, 512)
    assert tensors["layer4.2.relu3"].shape == (1, 7, 7, 2048)
    assert tensors["fc.weight"].shape == (1000, 2048)


def test_unknown_model_is_refused() -> None:
    message = (
        "model must be one of digits-mlp, digits-cnn, digits-resnet, lenet, resnet9, resnet18, resnet50; it is 'vgg'"
    )
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        build("vgg", 1)


@pytest.mark.parametrize("model", MODELS)
def test_batch_below_one_is_refused(model: str) -> None:
    with pytest.raises(HwsimError, match=f"^{model}: batch must be an integer, 1 or more; it is 0$"):
        build(model, 0)
