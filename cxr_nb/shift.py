"What validation cannot see: the same films, blurred, darker, wider, or from a series that was never trained on."

import numpy as np
import pandas as pd
import torch
from fastai.vision.all import L, parent_label
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score
from torchvision.transforms.v2 import functional as V
from cxr_nb.film import read_film
from cxr_nb.data import PatientSplitter, blurred
from cxr_nb.confidence import log_odds

def _zoomed(x, wide, high):
    "The middle of films (films, 1, size, size), drawn so many times as wide and as high"
    h, w = x.shape[2:]
    return V.resize(V.center_crop(x, [round(h/high), round(w/wide)]), [h, w])

SHIFTS = {
    'as it is': lambda x: x,
    'blurred': lambda x: blurred(x, 1.),
    'much blurred': lambda x: blurred(x, 2.),
    'sharpened': lambda x: (2*x - blurred(x, 1.)).clamp(0, 1),
    'darker': lambda x: x*.75,
    'brighter': lambda x: 1 - (1 - x)*.75,
    'less contrast': lambda x: (x - .5)*.7 + .5,
    'more contrast': lambda x: ((x - .5)*1.4 + .5).clamp(0, 1),
    'cropped': lambda x: _zoomed(x, 1.15, 1.15),
    'narrower': lambda x: _zoomed(x, 1, 1.2),
    'wider': lambda x: _zoomed(x, 1.2, 1),
} # from films (films, 1, size, size), 0 to 1, to the same films taken another way

def shift_table(
    clf,   # A `Classifier`
    films, # Paths of films, in folders named by class
) -> pd.DataFrame: # A row per shift: log loss, AUROC, sensitivity and specificity at the classifier's own operating point
    "What a classifier would say of the same films, taken another way; its guard is not asked"
    x = torch.from_numpy(np.stack([read_film(f, clf.size) for f in films]))[:, None]/255
    truth, rows = np.array([parent_label(f) == clf.positive for f in films]), {}
    for name, change in SHIFTS.items():
        squares = (change(x)[:, 0]*255).round().byte().numpy()
        logits = np.concatenate([clf.logits(squares[i:i+64]) for i in range(0, len(squares), 64)])
        p = expit(log_odds(logits, clf.vocab, clf.positive)/clf.temperature)
        called = p >= clf.point.threshold
        rows[name] = dict(log_loss=log_loss(truth, p), auroc=roc_auc_score(truth, p), sensitivity=called[truth].mean(), specificity=(~called[~truth]).mean())
    return pd.DataFrame(rows).T

def SeriesSplitter(
    series='NORMAL2',  # How the names of the normals to hold out begin
    valid_pct=.15,     # Share of the films with pneumonia to hold out, above 0 and at most 0.5
    seed=42,           # Which patients with pneumonia
): # Function from film paths to (train, valid) indices
    "Hold out every normal of one series, and patients with pneumonia as `PatientSplitter` does; raises `ValueError` where one side would have no normal"
    def _split(films):
        held = set(PatientSplitter(valid_pct, seed)(films)[1])
        normal = np.array([parent_label(f) == 'NORMAL' for f in films])
        named = np.array([f.name.startswith(series) for f in films])
        if len(set(named[normal])) < 2:
            raise ValueError(f"The names of {'all' if named[normal].any() else 'no'} normals begin with '{series}'; name a series that some of them belong to.")
        out = np.where(normal, named, [i in held for i in range(len(films))])
        return L(np.flatnonzero(~out).tolist()), L(np.flatnonzero(out).tolist())
    return _split
