"""A laboratory for cures: phantoms with a second machine that train shows on ill children alone; writes cures.json, which lesson 11 reads.

python nbs/records/cures.py [SEEDS]

The second machine takes two X-rays in five: in train of ill children only, in the test of all. It has a look (softer, darker greys)
and a stamp. Frozen ImageNet features with a logistic regression, so that a trial takes seconds; `ceiling` is the same with a second
machine that takes healthy children of train, too. Nothing is chosen on a real X-ray here.
"""
import json, sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from cxr_nb.dataset import hold_out, phantom_data, read_dataset
from cxr_nb.model import build_model, model_stats

SIZE, SHARE, ARCH = 128, .4, 'tf_efficientnet_lite0'

def second_machine(image):
    "The look and the stamp of another machine"
    image = image.filter(ImageFilter.GaussianBlur(.7)).point([round(255*(v/255)**1.25) for v in range(256)])
    w, h = image.size
    ImageDraw.Draw(image).text((.985*w, .985*h), 'KV59', fill=250, font=ImageFont.load_default(.062*h), anchor='rb')
    return image

def squares_of(paths, other):
    "Squares (X-rays, SIZE, SIZE), uint8, some of them from the other machine"
    def read(path, is_other):
        with Image.open(path) as image: image = image.convert('L')
        if is_other: image = second_machine(image)
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return np.stack([read(path, is_other) for path, is_other in zip(paths, other)])

def swapped_amplitude(squares, partners, rng):
    "Low frequencies of the Fourier amplitude mixed with those of another X-ray (FACT, arXiv 2105.11424)"
    a, b = (np.fft.fftshift(np.fft.fft2(s.astype(float)), axes=(1, 2)) for s in (squares, squares[partners]))
    middle, reach = SIZE//2, SIZE//8
    low = np.zeros((SIZE, SIZE), bool)
    low[middle - reach:middle + reach, middle - reach:middle + reach] = True
    mixed = np.abs(a)
    part = rng.uniform(size=(len(squares), 1, 1))
    mixed = np.where(low, (1 - part)*mixed + part*np.abs(b), mixed)
    images = np.fft.ifft2(np.fft.ifftshift(mixed*np.exp(1j*np.angle(a)), axes=(1, 2))).real
    return images.clip(0, 255).astype(np.uint8)

def swapped_histogram(squares, partners):
    "Each X-ray with the grey levels of another one, from its darkest pixel to its brightest"
    pixels = squares.reshape(len(squares), -1)
    order = pixels.argsort(1, kind='stable')
    out = np.empty_like(pixels)
    np.put_along_axis(out, order, np.sort(pixels[partners], 1), 1)
    return out.reshape(squares.shape)

def random_curves(squares, rng):
    "A random rising curve of greys for each X-ray"
    x = np.linspace(0, 255, 6)
    curves = [np.interp(np.arange(256), x, np.r_[0, np.cumsum(steps)/steps.sum()*255])
              for steps in rng.dirichlet([2]*5, len(squares))]
    return np.stack([curve[s] for curve, s in zip(curves, squares)]).astype(np.uint8)

def coarse(squares, sigma=2):
    "Fine detail removed from X-rays, where blur and stamps differ"
    return np.stack([np.asarray(Image.fromarray(s).filter(ImageFilter.GaussianBlur(sigma))) for s in squares])

class Features:
    "Pooled features of a frozen body; `style` mixes the statistics of early maps with those of another X-ray of the batch"
    def __init__(self):
        self.body = build_model(ARCH)[0].eval()
        self.mean, self.std = (torch.tensor(s)[:, None, None] for s in model_stats(ARCH))
        self.style = None
        for block in list(self.body.model.blocks)[:2]: block.register_forward_hook(self._mix)

    def _mix(self, block, x, y):
        "MixStyle (Zhou and others 2021, arXiv 2104.02008)"
        if self.style is None: return y
        partners, part = self.style
        mean, std = y.mean((2, 3), keepdim=True), y.std((2, 3), keepdim=True) + 1e-6
        mixed_mean, mixed_std = (part*s + (1 - part)*s[partners] for s in (mean, std))
        return (y - mean)/std*mixed_std + mixed_mean

    def __call__(self, squares, partners=None, rng=None, bs=50):
        rows = []
        with torch.inference_mode():
            for i in range(0, len(squares), bs):
                here = np.arange(i, min(i + bs, len(squares)))
                x = squares[here]
                if partners is not None: # of each X-ray its partner, behind it in the batch
                    x = np.concatenate([x, squares[partners[here]]])
                    n = len(here)
                    part = torch.tensor(rng.beta(.1, .1, (2*n, 1, 1, 1)), dtype=torch.float32)
                    self.style = np.r_[n:2*n, 0:n], part
                y = self.body((torch.tensor(x)[:, None]/255. - self.mean)/self.std)[:len(here)]
                self.style = None
                rows.append(torch.cat([y.amax((2, 3)), y.mean((2, 3))], 1).numpy())
        return np.concatenate(rows)

def fit(X, y, weights=None, before=None):
    "Standardise, and a logistic regression; `before` is what features go through first when it is asked"
    mean, std = X.mean(0), X.std(0) + 1e-6
    model = LogisticRegression(C=.003, max_iter=2000).fit((X - mean)/std, y, weights)
    def score(Z): return model.decision_function(((before(Z) if before else Z) - mean)/std)
    return score

def fit_worst_cell(X, y, cells, rounds=10, step=1.):
    "Weights that grow where the loss is largest (group DRO, Sagawa and others 2020, arXiv 1911.08731)"
    present = np.unique(cells)
    share = np.ones(len(present))/len(present)
    for _ in range(rounds):
        weights = sum(q/(cells == cell).mean()*(cells == cell) for q, cell in zip(share, present))
        score = fit(X, y, weights)
        losses = np.logaddexp(0, np.where(y, -1, 1)*score(X))
        share = share*np.exp(step*np.array([losses[cells == cell].mean() for cell in present]))
        share /= share.sum()
    return score

def fit_balanced_samples(X, y, cells, rng, n=10):
    "The mean of last layers, each on as many X-rays of every cell (Kirichenko and others 2022, arXiv 2204.02937)"
    least = min(np.bincount(cells)[np.unique(cells)])
    def sample(): return np.concatenate([rng.permutation(np.flatnonzero(cells == cell))[:least] for cell in np.unique(cells)])
    scores = [fit(X[rows], y[rows]) for rows in (sample() for _ in range(n))]
    def score(Z): return np.mean([each(Z) for each in scores], 0)
    return score

def without_directions(X, other, rounds):
    "A projection that removes, round by round, what tells the machines apart among X-rays of one class"
    mean, std = X.mean(0), X.std(0) + 1e-6
    keep = np.eye(X.shape[1])
    for _ in range(rounds):
        found = LogisticRegression(C=.003, max_iter=2000).fit((X - mean)/std@keep, other).coef_[0]
        found /= np.linalg.norm(found)
        keep = keep - np.outer(keep@found, found)
    def project(Z): return (Z - mean)/std@keep
    return project

def judge(score, y, other):
    "AUROC of all pairs, within each machine, and of the hard pairs"
    def auroc(rows): return roc_auc_score(y[rows], score[rows])
    return dict(all=auroc(y | True), second_machine=auroc(other), first_machine=auroc(~other), hard=auroc(np.where(y, ~other, other)))

def one_seed(seed, features):
    "All ways of training on one draw of phantoms"
    table = hold_out(read_dataset(phantom_data(n_train=800, n_test=400, test_prior=.5, films_per_patient=1, copies=0, seed=seed)))
    table = table[table.split != 'val'].reset_index(drop=True)
    rng = np.random.default_rng(seed)
    y, split, lucky = table.positive.to_numpy(), table.split.to_numpy(), rng.uniform(size=len(table)) < SHARE
    test, train, valid = (split == s for s in ('test', 'train', 'valid'))
    other = lucky & (test | y)
    squares = squares_of(table.path, other)
    X = features(squares)
    fair = lucky & ~other # healthy children of train whom the second machine takes in the ceiling
    X_fair = X.copy()
    X_fair[fair] = features(squares_of(table.path[fair], fair[fair]))
    rows = np.flatnonzero(train)
    partners = np.array([rng.choice(np.flatnonzero(y[rows] != own)) for own in y[rows]]) # of the other class
    mixed = features(swapped_amplitude(squares[rows], partners, rng))
    styled = features(squares[rows], partners, rng)
    cells = 2*y[rows] + other[rows]
    sizes = np.bincount(cells, minlength=4)
    balanced = len(rows)/(np.count_nonzero(sizes)*sizes[cells])
    swapped = features(swapped_histogram(squares[rows], partners))
    curved = features(random_curves(squares[rows], rng))
    def augmented(more): return fit(np.r_[X[rows], more], np.r_[y[rows], y[rows]])
    ways = {'nothing': fit(X[rows], y[rows]), 'balanced strata': fit(X[rows], y[rows], balanced),
            'worst cell': fit_worst_cell(X[rows], y[rows], cells),
            'balanced samples': fit_balanced_samples(X[rows], y[rows], cells, rng),
            'amplitude mixed': augmented(mixed), 'style mixed': augmented(styled),
            'histogram swapped': augmented(swapped), 'random curves': augmented(curved)}
    ill = rows[y[rows]]
    for rounds in (1, 4, 16):
        project = without_directions(X[ill], other[ill], rounds)
        ways[f'directions removed: {rounds}'] = fit(project(X[rows]), y[rows], before=project)
    result = {name: judge(way(X[test]), y[test], other[test]) | dict(valid=roc_auc_score(y[valid], way(X[valid])))
              for name, way in ways.items()}
    X_coarse = features(coarse(squares))
    blurred = fit(X_coarse[rows], y[rows])
    result['coarse input'] = judge(blurred(X_coarse[test]), y[test], other[test]) | dict(valid=roc_auc_score(y[valid], blurred(X_coarse[valid])))
    ceiling = fit(X_fair[rows], y[rows])
    fair_valid = roc_auc_score(y[valid], ceiling(X_fair[valid]))
    result['ceiling'] = judge(ceiling(X[test]), y[test], other[test]) | dict(valid=fair_valid)
    return [dict(seed=seed, way=name, **{k: round(float(v), 4) for k, v in row.items()}) for name, row in result.items()]

def main(seeds):
    torch.manual_seed(0)
    features = Features()
    record = []
    for seed in seeds:
        record += one_seed(seed, features)
        Path(__file__).with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main(range(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
