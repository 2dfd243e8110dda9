"""What a finished run answers, and what it rejects; added to answers.json. Read by lesson 97.

python nbs/records/answers.py RUN FOLDER                what the input check rejects, by class and by kind of image, and whether
                                                        cxr_predict repeats the report's calls
python nbs/records/answers.py RUN FOLDER --full FOLDER  the same X-rays in their original size beside the copies that the run was
                                                        trained on

Kinds marked "fitted" helped to make the check (from the training X-rays); the others had no part in it. Nothing is chosen here.
The photographs need: pip install scikit-image
"""
import argparse, json, subprocess, tempfile
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from cxr_nb.classifier import ODDITIES, load_classifier
from cxr_nb.dataset import read_dataset
from cxr_nb.film import read_xray

results = Path(__file__).with_name('answers.json')
N = 400 # images of each blind kind

def photographs(r):
    "Random rectangles of photographs"
    import skimage.data
    from sklearn.datasets import load_sample_images
    names = 'astronaut coffee chelsea rocket camera coins moon clock retina brick grass gravel cat'.split()
    photos = [Image.fromarray(a) for a in [*load_sample_images().images, *(getattr(skimage.data, n)() for n in names)]]
    for i in range(N):
        photo = photos[i % len(photos)]
        width, height = [int(side*r.uniform(.4, 1)) for side in photo.size]
        left, top = r.integers(photo.width - width + 1), r.integers(photo.height - height + 1)
        yield photo.crop((left, top, left + width, top + height))

def texts(r):
    "Pages of random letters"
    for _ in range(N):
        page = Image.new('L', (400, 520), 255)
        for k in range(int(r.integers(5, 40))):
            letters = [chr(c) if r.random() > .15 else ' ' for c in r.integers(33, 122, int(r.integers(10, 60)))]
            ImageDraw.Draw(page).text((20, 12*k + 10), ''.join(letters), fill=int(r.integers(0, 90)))
        yield page

def digits(r):
    from sklearn.datasets import load_digits
    for d in load_digits().images[:N]: yield Image.fromarray((d*15.9).astype(np.uint8)).resize((64, 64))

def noise(r):
    for _ in range(N):
        yield Image.fromarray(r.normal(128, r.uniform(5, 60), (160, 220)).clip(0, 255).astype(np.uint8))

def clouds(r):
    "Smooth random fields, as grey as an X-ray"
    for _ in range(N):
        field = ndimage.gaussian_filter(r.normal(size=(224, 224)), r.uniform(4, 30))
        yield Image.fromarray(((field - field.min())/np.ptp(field)*255).astype(np.uint8))

BLIND = dict(photographs=photographs, text=texts, digits=digits, noise=noise, clouds=clouds)

def _tilted(squares): return np.stack([ndimage.rotate(s, 45, reshape=False) for s in squares])
def _blurred(squares): return np.stack([np.asarray(Image.fromarray(s).filter(ImageFilter.GaussianBlur(8))) for s in squares])

CHANGED = {'tilted by 45 degrees': _tilted, 'blurred': _blurred}

def rejected(clf, squares):
    features = np.concatenate([clf.ask(squares[i:i+64])[1] for i in range(0, len(squares), 64)])
    return int((clf.input_check.score(features) > clf.input_check.limit).sum())

def check_table(clf, run, test):
    "Images and rejections by group"
    said = pd.read_csv(run/'predictions.csv', keep_default_na=False)
    rows = [dict(group=f'{split}, {label}', part='X-rays', images=len(g), rejected=int((g.call == 'rejected').sum()))
            for (split, label), g in said.groupby(['split', 'label'])]
    squares = np.stack([read_xray(f, clf.size) for f in test.path])
    for part, kinds in (('fitted', ODDITIES), ('blind', CHANGED)):
        for kind, change in kinds.items():
            changed = np.ascontiguousarray(change(squares))
            for label in sorted(set(test.label)):
                n = (test.label == label).to_numpy()
                rows.append(dict(group=f'test, {label}, {kind}', part=part, images=int(n.sum()), rejected=rejected(clf, changed[n])))
    r = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp)/'image.png'
        for kind, images in BLIND.items():
            squares = []
            for image in images(r):
                image.save(file)
                squares.append(read_xray(file, clf.size))
            rows.append(dict(group=kind, part='blind', images=len(squares), rejected=rejected(clf, np.stack(squares))))
    return rows

def command_calls(run, folder):
    "How many calls of cxr_predict differ from those that the report counted"
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)/'answers.csv'
        subprocess.run(['cxr_predict', run, Path(folder)/'test', '--out', out], check=True)
        answers = pd.read_csv(out, keep_default_na=False)
    said = pd.read_csv(run/'predictions.csv', keep_default_na=False).query("split == 'test'")
    both = said.assign(name=said.file.map(lambda f: Path(f).name)).merge(
        answers.assign(name=answers.file.map(lambda f: Path(f).name)), on='name', suffixes=('', '_command'))
    return dict(X_rays=len(both), other_calls=int((both.call != both.call_command).sum()))

def sizes(clf, full, folder):
    "The same X-rays in their original size and as copies"
    copies = read_dataset(folder)
    copies = copies.assign(name=[p.name for p in copies.path]).set_index('name').path
    originals = read_dataset(full)
    large = clf.predict(list(originals.path))
    small = clf.predict([copies[p.name] for p in originals.path])
    apart = (large.probability - small.probability).abs()
    return dict(X_rays=len(large), equal_calls=int((large.call.values == small.call.values).sum()),
                median_difference=round(float(apart.median()), 5), largest_difference=round(float(apart.max()), 4))

def main(run, folder, full):
    clf = load_classifier(run)
    table = read_dataset(folder)
    found = dict(run=clf.about['id'], recipe=clf.about['recipe']['name'], seeds=clf.about['seeds'], data=clf.about['data']['name'])
    found['input_check'] = check_table(clf, run, table[table.split == 'test'])
    found['calls'] = command_calls(run, folder)
    if full: found['sizes'] = sizes(clf, full, folder)
    kept = json.loads(results.read_text(encoding='utf-8')) if results.is_file() else []
    kept = [k for k in kept if k['run'] != found['run']]
    results.write_text(json.dumps([*kept, found], indent=1) + '\n', encoding='utf-8')
    print(json.dumps({k: v for k, v in found.items() if k != 'input_check'}))
    for row in found['input_check']: print(row)

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('run', type=Path)
    p.add_argument('folder')
    p.add_argument('--full')
    a = p.parse_args()
    main(a.run, a.folder, a.full)
