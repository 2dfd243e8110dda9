"""What the recipes were chosen by: adds what is missing to the records of lesson 09, and goes on where it was stopped.

python .ci/choose.py           nbs/planted.json: the phantoms, whose test films come from a blurrier scanner, with and without Sharpness, three seeds
python .ci/choose.py FOLDER    on the real films, read on validation; the test folder is not opened; three to five minutes a line on two cores:
                               nbs/choice.json, one change at a time, and nbs/series.json, with a whole series of normals held out
"""
import json, sys
from dataclasses import replace
from pathlib import Path
from cxr_nb.all import QuickRecipe, SeriesSplitter, add_result, fingerprint, find_data, phantom_data, report_run, train_run, try_recipe

root = Path(__file__).parent.parent
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
head_first = dict(bs=16, freeze_epochs=1)
strangers = {
    'base': {},
    'three kinds': dict(kinds=True),
    'sharpness': dict(sharpness=3.),
    'MixUp': dict(mixup=.4),
    'smaller films': dict(size=64),
    'head first, gentler body': dict(freeze_epochs=1, body_lr=.1),
    'head first, smaller batches': head_first,
    'sharpness, head first, smaller batches': dict(sharpness=3., **head_first),
    'the same, gentler body': dict(sharpness=3., body_lr=.1, **head_first),
}

def choose(path, file, base, changes, splitter=None, views=(1,), seeds=(0, 1)):
    "Try each change with each seed, unless it is recorded; the base also with more views"
    for seed in seeds:
        for name, change in changes.items():
            records = json.loads(file.read_text()) if file.exists() else []
            if any((r['change'], r['recipe']['seed']) == (name, seed) for r in records): continue
            record = try_recipe(path, replace(base, name=name, seed=seed, **change), views if name == 'base' else (1,), splitter and splitter(seed=seed))
            file.write_text(json.dumps([*records, dict(change=name, data=dict(name=path.name, fingerprint=fingerprint(path)), **record)], indent=1) + '\n')

def planted(file=root/'nbs'/'planted.json', seeds=(0, 1, 2)):
    "Train on phantoms with sharp films and read the blurrier ones of their test"
    recipe = QuickRecipe(size=96, bs=16, epochs=4, freeze_epochs=1, kinds=False)
    for seed in seeds:
        for name, strength in (('without Sharpness', 0.), ('with Sharpness', 3.)):
            out = root/'runs'/'planted'/f'{name}-{seed}'
            if not (out/'metrics.json').exists(): train_run(phantom_data(), replace(recipe, name=name, sharpness=strength, seed=seed), out)
            report_run(out)
            add_result(out, file)

if __name__ == '__main__':
    if len(sys.argv) == 1: planted()
    else:
        path = find_data(sys.argv[1])
        choose(path, root/'nbs'/'choice.json', base, changes, views=(1, 2, 4))
        choose(path, root/'nbs'/'series.json', replace(base, epochs=3), strangers, SeriesSplitter)
