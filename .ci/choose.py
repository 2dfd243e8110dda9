"""One change at a time, read on patients held out of train: adds what is missing to nbs/choice.json.

python .ci/choose.py FOLDER    about three minutes a line on two cores; the test folder is not opened
"""
import json, sys
from dataclasses import replace
from pathlib import Path
from cxr_nb.all import QuickRecipe, fingerprint, find_data, try_recipe

base = QuickRecipe('base', size=96, bs=32, epochs=2, freeze_epochs=0, kinds=False, sharpness=0., lighting=.2)
changes = {
    'base': {},
    'three kinds': dict(kinds=True),
    'sharpness': dict(sharpness=3.),
    'mean of the weights': dict(ema=.99),
    'larger films': dict(size=128),
    'stronger lighting': dict(lighting=.5),
    'all four': dict(kinds=True, sharpness=3., ema=.99, lighting=.5),
    'light MixUp': dict(mixup=.2),
    'gentler body': dict(body_lr=.1),
    'Lite-1': dict(arch='tf_efficientnet_lite1'),
    'growing films': dict(first_size=64),
    'no smoothing': dict(smoothing=0.),
}

def choose(path, file=Path(__file__).parent.parent/'nbs'/'choice.json', seeds=(0, 1)):
    "Try each change with each seed, unless it is recorded"
    for seed in seeds:
        for name, change in changes.items():
            records = json.loads(file.read_text()) if file.exists() else []
            if any((r['change'], r['recipe']['seed']) == (name, seed) for r in records): continue
            record = try_recipe(path, replace(base, name=name, seed=seed, **change), (1, 2, 4) if name == 'base' else (1,))
            file.write_text(json.dumps([*records, dict(change=name, data=dict(name=path.name, fingerprint=fingerprint(path)), **record)], indent=1) + '\n')

if __name__ == '__main__': choose(find_data(sys.argv[1]))
