"""A tutorial: one image, one network, its trace, and what both look at. Needs no download; takes a minute.

Run it with `python docs/tutorial.py`, or open it as a notebook: editors and Jupytext take "# %%" for a cell.
"""

# %% [markdown]
# The bundled network knows twelve drawn objects, and was trained to obey small symbols: a Trojan. The bundled picture
# shows a heart beside a banknote. Why does the network say what it says?

# %%
import torch

import spade_cli
from spade_cli.interpretation import METHODS, explainable
from spade_cli.interpretation.contribution import contributions
from spade_cli.world.demo import PICTURE, share_on_symbol, symbol_share
from spade_cli.world.network import demo_classifier

classifier = demo_classifier()
image = spade_cli.load_image(PICTURE)  # uint8 (3, H, W)
x = classifier.preprocessing.normalise(classifier.preprocessing.view(image))  # (1, 3, 128, 128)
with torch.no_grad():
    target = int(classifier.model(x).argmax())
print("the network says", classifier.label(target))

# %% [markdown]
# A trace is a copy of the network in which only the connections that matter for this image are left. `layers` says how
# much of each is removed: 95 % of the weights of the last stage, half of those of the head.

# %%
trace = spade_cli.trace(classifier, image, schedule="none", layers={"layer4.*": 0.95, "fc": 0.5}, samples=64)
trace  # in a notebook: a chart of the layers
print(trace)

# %% [markdown]
# Every saliency method is a function of any network. `explainable` makes the copy that captum's methods need.

# %%
networks = {"dense": classifier.model, "trace": trace.model}
maps = {name: METHODS["input_x_gradient"](explainable(network, x), x, target) for name, network in networks.items()}
maps["trace"]  # in a notebook: the map
shares = {name: share_on_symbol(explanation.map.numpy()) for name, explanation in maps.items()}
print(f"the symbol covers {symbol_share():.0%} of the picture")
for name, share in shares.items():
    print(f"{name}: {share:.0%} of the map lies on it")

# %% [markdown]
# Which channels carry the answer? Activation times the weights after it, summed over places.

# %%
added = contributions(trace.model, x, target, ["layer4.5.conv2"])["layer4.5.conv2"]  # (channels, height, width)
carrying = added.sum((1, 2)).argsort(descending=True)[:3].tolist()
print("the channels of layer4.5.conv2 that add most:", carrying)

# %% [markdown]
# The same from the command line, with a report to open and to send:
#
#     spade demo
#     spade open
#     spade neurons
#
# and back in Python, `spade_cli.open_run("outputs/...")` shows that report in the notebook.
