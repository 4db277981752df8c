# %% [markdown]
"""# Tutorial

One image, one network, its trace, and what both look at. It needs no download and takes a minute: `python
docs/tutorial.py`. It is a notebook as well: editors and Jupytext take `# %%` for the beginning of a cell.
"""

# %% [markdown]
# The bundled network knows twelve drawn objects, and was trained to obey small symbols: a Trojan. The bundled picture
# shows a heart beside a banknote. Why does the network say what it says?

# %%
import torch

import spade_cli
from spade_cli.interpretation import METHODS, Channel, SmoothedMethod, explainable, visualize
from spade_cli.interpretation.contribution import contributions
from spade_cli.report.pictures import picture
from spade_cli.world.demo import PICTURE, share_on_symbol, symbol_share
from spade_cli.world.network import demo_classifier

classifier = demo_classifier()
image = spade_cli.load_image(PICTURE)  # uint8 (3, H, W)
view = classifier.preprocessing.view(image)  # (1, 3, 128, 128), what the network sees, in [0, 1]
x = classifier.preprocessing.normalise(view)
with torch.no_grad():
    target = int(classifier.model(x).argmax())
print("the network says", classifier.label(target))
picture(view[0])  # a cell's last line is what a notebook shows

# %% [markdown]
# ## The trace
#
# A trace is a copy of the network in which only the connections that matter for this image are left. `layers` says how
# much of each is removed: 95 % of the weights of the last stage, half of those of the head.

# %%
trace = spade_cli.trace(classifier, image, schedule="none", layers={"layer4.*": 0.95, "fc": 0.5}, samples=64)
print(trace)
trace

# %% [markdown]
# ## Saliency maps
#
# Every saliency method is a function of any network. `explainable` makes the copy that captum's methods need, and
# `SmoothedMethod` takes the mean over noisy copies of the image.

# %%
networks = {"dense": classifier.model, "trace": trace.model}
method = SmoothedMethod(METHODS["input_x_gradient"], samples=8, noise=0.05)
maps = {name: method([explainable(network, x)], x, target) for name, network in networks.items()}
shares = {name: share_on_symbol(explanation.map.numpy()) for name, explanation in maps.items()}
print(f"the symbol covers {symbol_share():.0%} of the picture")
for name, share in shares.items():
    print(f"{name}: {share:.0%} of the map lies on it")

# %% [markdown]
# The map of the dense network:

# %%
maps["dense"]

# %% [markdown]
# and that of the trace:

# %%
maps["trace"]

# %% [markdown]
# ## Which channels carry the answer?
#
# A channel's contribution: its activation times the gradient of the answer, summed over places.

# %%
added = contributions(trace.model, x, target, ["layer4.5.conv2"])["layer4.5.conv2"]  # (channels, height, width)
carrying = added.sum((1, 2)).argsort(descending=True)[:3].tolist()
print("the channels of layer4.5.conv2 that add most:", carrying)

# %% [markdown]
# ## What does the class neuron look for?
#
# A visualization climbs the neuron's response, from noise. On the left that of the dense network, on the right that of
# the trace.

# %%
own = classifier.preprocessing
climbed = [
    visualize([network], [Channel(None, target)], size=own.size, mean=own.mean, std=own.std, steps=64)[0]
    for network in networks.values()
]
picture(torch.cat(climbed, dim=2))

# %% [markdown]
# ## From the command line
#
# The same, with a report to open and to send:
#
#     spade demo
#     spade open
#     spade neurons
#
# and back in Python, `spade_cli.open_run("outputs/...")` shows that report in the notebook.
