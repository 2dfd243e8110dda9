"""What the recipes were chosen by: adds what is missing to the records of lesson 09, and goes on where it was stopped.

python .ci/choose.py planted          nbs/planted.json: the phantoms, whose test films come from a blurrier scanner, with and without Sharpness, three seeds
python .ci/choose.py shapes FOLDER    nbs/shapes.json: width and height of the training films of FOLDER, which should have their original size
python .ci/choose.py changes FOLDER   nbs/choice.json, one change at a time on the real films; read on validation, the test folder is not opened
python .ci/choose.py series FOLDER    nbs/series.json, the same with a whole series of normals held out
python .ci/choose.py longer FOLDER    nbs/series.json, the recipe found there on larger films and for longer

The last three take 3 to 20 minutes a line on two cores; seeds after FOLDER, as in `longer FOLDER 1`, let two of them run side by side.
"""
import json, sys
from dataclasses import replace
from pathlib import Path
from PIL import Image
from cxr_nb.all import QuickRecipe, SeriesSplitter, add_result, find_data, find_films, fingerprint, phantom_data, report_run, train_run, try_recipe

root = Path(__file__).parent.parent
base = QuickRecipe('base', size=96, bs=32, epochs=2, freeze_epochs=0, sharpness=0., stretch=1.)
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
    'the same, stretched': dict(sharpness=3., stretch=4/3, **head_first),
}
found = dict(strangers['the same, stretched'], size=128)
longer = {
    'stretched, 128 pixels': found,
    'stretched, 128 pixels, 8 epochs': dict(found, epochs=8),
}

def choose(path, file, base, changes, seeds, splitter=None, views=(1,)):
    "Try each change with each seed, unless it is recorded; the base also with more views"
    read = lambda: json.loads(file.read_text()) if file.exists() else []
    for seed in seeds:
        for name, change in changes.items():
            if any((r['change'], r['recipe']['seed']) == (name, seed) for r in read()): continue
            record = try_recipe(path, replace(base, name=name, seed=seed, **change), views if name == 'base' else (1,), splitter and splitter(seed=seed))
            record = dict(change=name, data=dict(name=path.name, fingerprint=fingerprint(path)), **record)
            file.write_text(json.dumps([*read(), record], indent=1) + '\n')

def planted(file=root/'nbs'/'planted.json', seeds=(0, 1, 2)):
    "Train on phantoms with sharp films and read the blurrier ones of their test"
    recipe = QuickRecipe(size=96, stretch=1.)
    for seed in seeds:
        for name, strength in (('without Sharpness', 0.), ('with Sharpness', 3.)):
            out = root/'runs'/'planted'/f'{name}-{seed}'
            if not (out/'metrics.json').exists(): train_run(phantom_data(), replace(recipe, name=name, sharpness=strength, seed=seed), out)
            report_run(out)
            add_result(out, file)

def shapes(path, file=root/'nbs'/'shapes.json'):
    "Write down how large the training films are"
    rows = [dict(finding=f.parent.name, width=w, height=h) for f in find_films(path, 'train') for w, h in [Image.open(f).size]]
    file.write_text(json.dumps(dict(data=dict(name=path.name, fingerprint=fingerprint(path)), films=rows)) + '\n')

def trials(what, path, seeds):
    "What was tried on validation"
    if what == 'changes': choose(path, root/'nbs'/'choice.json', base, changes, seeds, views=(1, 2, 4))
    else: choose(path, root/'nbs'/'series.json', replace(base, epochs=3), dict(series=strangers, longer=longer)[what], seeds, SeriesSplitter)

if __name__ == '__main__':
    what, *args = sys.argv[1:]
    if what == 'planted': planted()
    elif what == 'shapes': shapes(find_data(args[0]))
    else: trials(what, find_data(args[0]), [int(s) for s in args[1:]] or [0, 1])
