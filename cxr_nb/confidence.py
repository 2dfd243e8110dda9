"An interval for every metric, and a paired look at two models."

import re
from dataclasses import dataclass
from pathlib import Path
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit, logsumexp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from cxr_nb.data import positive_class
from cxr_nb.evaluate import OperatingPoint

def _patient_weights(
    patients, # Patient of each film (films,)
    n=2000,   # Resamples
    seed=0,   # Of the random numbers
) -> np.ndarray: # How often each film occurs in each resample (n, films)
    "Resample patients, not films; raises `ValueError` for fewer than ten patients"
    names, whose = np.unique(np.asarray(patients, str), return_inverse=True)
    if len(names) < 10: raise ValueError(f'{len(names)} patients are too few for an interval; bring films of 10 or more.')
    return np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1/len(names)), n)[:, whose].astype(float)

def _by_score(W, score, ill):
    "Weight of the positive and of the negative films at each distinct score, ascending"
    order = np.argsort(score, kind='stable')
    start, W, ill = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0]), W[:, order], ill[order]
    return np.add.reduceat(W*ill, start, 1), np.add.reduceat(W*~ill, start, 1)

def _share(a, b): return np.divide(a, b, out=np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan), where=b > 0)

def _auroc(W, score, ill):
    ill, healthy = _by_score(W, score, ill)
    below = healthy.cumsum(1) - healthy/2
    return _share((ill*below).sum(1), ill.sum(1)*healthy.sum(1))

def _interval(draws): return tuple(np.nanpercentile(draws, [2.5, 97.5]))

def auroc_interval(
    scores,   # Score of each film, higher for the positive (films,)
    truth,    # True where the film is positive (films,)
    patients, # Patient of each film (films,)
    n=2000,   # Resamples
    seed=0,   # Of the random numbers
) -> tuple:   # AUROC, and the ends of its 95 % interval
    "AUROC with a bootstrap over patients; raises `ValueError` for a single class, NaN, or fewer than ten patients"
    scores, truth = np.asarray(scores, float), np.asarray(truth, bool)
    if truth.all() or not truth.any(): raise ValueError('All films are of one class; an AUROC needs positive and negative ones.')
    if np.isnan(scores).any(): raise ValueError(f'{np.isnan(scores).sum()} scores are NaN; leave those films out, or find out why.')
    draws = _auroc(_patient_weights(patients, n, seed), scores, truth)
    return float(_auroc(np.ones((1, len(truth))), scores, truth)[0]), *map(float, _interval(draws))

@dataclass
class Predictions:
    "What a network said of films whose truth is known; raises `ValueError` for what cannot be evaluated"
    probs:np.ndarray    # Probability of the positive class (films,), 0 to 1
    truth:np.ndarray    # Is the film positive? (films,), bool
    patients:np.ndarray # Patient of each film (films,)
    split:str='test'    # Where the films come from: 'valid' or 'test'
    positive:str='PNEUMONIA' # The class looked for
    files:np.ndarray=None # Name of each film (films,)
    refused:np.ndarray=None # Was no call made? (films,), bool; counts as wrong for sensitivity and specificity; default: none

    def __post_init__(self):
        self.probs, self.truth, self.patients = np.asarray(self.probs, float), np.asarray(self.truth), np.asarray(self.patients)
        self.refused = np.zeros(len(self.probs), bool) if self.refused is None else np.asarray(self.refused, bool)
        _check(self)
        self.truth = self.truth.astype(bool)

def _check(p):
    "Raise `ValueError` for what is no probability, or not of one length"
    lengths = dict(probabilities=len(p.probs), labels=len(p.truth), patients=len(p.patients))
    if len(set(lengths.values())) > 1: raise ValueError(f'{" and ".join(f"{n} {k}" for k, n in lengths.items())} do not fit together; give one of each per film.')
    if np.isnan(p.probs).any(): raise ValueError(f'{np.isnan(p.probs).sum()} films of {p.split} have NaN for a probability; the training diverged: lower the learning rate.')
    if (p.probs < 0).any() or (p.probs > 1).any(): raise ValueError(f'Probabilities run from {p.probs.min():.3g} to {p.probs.max():.3g}; give them between 0 and 1 (logits: take the softmax first).')
    if np.ptp(p.probs) == 0: raise ValueError(f'All {len(p.probs)} films of {p.split} have the same probability, {p.probs[0]:.3g}; such a network has not learnt anything.')
    found = set(p.truth.tolist())
    if not found <= {0, 1}: raise ValueError(f'The truth of {p.split} holds {sorted(map(str, found))[:5]}; give True for {p.positive} and False for the rest.')
    if len(found) < 2: raise ValueError(f'All {len(p.probs)} films of {p.split} are {"" if p.truth.any() else "not "}{p.positive}; a metric needs both.')

def log_odds(
    logits,   # One column per class (films, classes)
    vocab,    # Names of the classes, in the order of the columns
    positive, # The class looked for
) -> np.ndarray: # Logit of that class against the rest (films,), float64
    "One class against the rest: for two classes, the difference of the logits"
    logits, i = np.asarray(logits, np.float64), list(vocab).index(positive)
    return logits[:, i] - logsumexp(np.delete(logits, i, 1), axis=1)

def read_predictions(
    file, # Predictions of a run: a CSV file with split, file, patient, label and a logit per class, or the run's folder
    positive=None, # The class looked for; default: as in `positive_class`
) -> dict: # `Predictions` by the name of the split
    "The predictions that a run saved, uncalibrated; raises `FileNotFoundError` without a file, `ValueError` for a patient in two splits"
    file = Path(file)/'predictions.csv' if Path(file).is_dir() else Path(file)
    if not file.is_file(): raise FileNotFoundError(f'{file} does not exist; name the folder of a finished run, or its predictions.csv.')
    table = pd.read_csv(file, dtype=dict(patient=str, label=str, call=str), keep_default_na=False, float_precision='round_trip')
    splits = table.groupby('patient').split.nunique()
    twice = sorted(splits.index[splits > 1])
    if twice: raise ValueError(f'{file}: {len(twice)} patients stand in two splits ({", ".join(twice[:5])}); split the films by patient and train again.')
    logits = table.filter(like='logit_').astype(float)
    vocab = [c.removeprefix('logit_') for c in logits]
    positive = positive_class(vocab, positive)
    probs, refused = expit(log_odds(logits.values, vocab, positive)), (table.call == 'refused').values if 'call' in table else np.zeros(len(table), bool)
    return {s: Predictions(probs[g.index], (g.label == positive).values, g.patient.values, s, positive, g.file.values, refused[g.index])
            for s, g in table.groupby('split')}

def calls(
    preds, # `Predictions`
    point=OperatingPoint(), # Threshold
) -> tuple: # (called positive, called negative), each (films,), bool; both False where the film was refused
    "What is called at a threshold"
    over = preds.probs >= point.threshold
    return over & ~preds.refused, ~over & ~preds.refused

def _rates(W, ill, positive, negative):
    "Metrics of the confusion matrix, for each resample; a refused film is in neither call, and so found by neither rate"
    count = lambda a: W @ a.astype(float)
    tp, fp, fn, tn = count(ill & positive), count(~ill & positive), count(ill & ~positive), count(~ill & negative)
    return {'sensitivity': _share(tp, count(ill)), 'specificity': _share(tn, count(~ill)), 'PPV': _share(tp, tp + fp),
            'NPV': _share(tn, tn + count(ill & negative)), 'F1': _share(2*tp, 2*tp + fp + fn)}

def _average_precision(W, score, ill):
    found, alarms = [v[:, ::-1].cumsum(1) for v in _by_score(W, score, ill)]
    steps = np.diff(found, axis=1, prepend=0)
    return _share((steps*np.nan_to_num(_share(found, found + alarms))).sum(1), found[:, -1])

def ece(
    probs, # Probability of the positive class (films,), 0 to 1
    truth, # Is the film positive? (films,), bool
    weights=None, # Weight of each film in each resample (n, films); default: one row of ones
    bins=15, # Bins of equal width
) -> np.ndarray: # One figure per row of weights, 0 to 1
    "Expected calibration error of the probability of the positive class, in bins as Guo and others (2017, arXiv 1706.04599, p. 3)"
    W = np.ones((1, len(probs))) if weights is None else weights
    place = np.minimum((probs*bins).astype(int), bins - 1)
    return np.abs((W*(truth - probs)) @ np.eye(bins)[place]).sum(1)/W.sum(1)

def _all_metrics(p, W, point):
    "Every metric for every row of weights"
    total, y, (positive, negative) = W.sum(1), p.truth, calls(p, point)
    rates = _rates(W, y, positive, negative)
    m = {'accuracy': W @ np.where(y, positive, negative)/total, 'balanced accuracy': (rates['sensitivity'] + rates['specificity'])/2, **rates,
         'AUROC': _auroc(W, p.probs, y), 'average precision': _average_precision(W, p.probs, y)}
    m['Brier score'] = W @ (p.probs - y)**2/total
    m['log loss'] = W @ -np.log(np.maximum(np.where(y, p.probs, 1 - p.probs), np.finfo(float).eps))/total
    return m | {'ECE': ece(p.probs, y, W)}

_PROPORTIONS = 'accuracy', 'balanced accuracy', 'sensitivity', 'specificity', 'PPV', 'NPV'

def _with_interval(name, draws, n_patients):
    "Value and 95 % interval; the first draw is the data itself"
    value, (low, high) = draws[0], _interval(draws[1:])
    if name in _PROPORTIONS and value in (0, 1): low, high = proportion_confint(round(value*n_patients), n_patients, method='wilson')
    return dict(value=value, low=low, high=high)

def metrics_table(
    preds,           # `Predictions`
    point=OperatingPoint(), # Threshold
    prevalence=None, # Share of positive people where the network will be used, 0 to 1: adds the PPV and NPV to expect there
    n=2000,          # Resamples
    seed=0,          # Of the random numbers
) -> pd.DataFrame:   # A row per metric: value, and the ends of its 95 % interval
    "Every metric with its interval from a bootstrap over patients"
    W = np.vstack([np.ones(len(preds.truth)), _patient_weights(preds.patients, n, seed)])
    m = _all_metrics(preds, W, point)
    if prevalence is not None: m |= _at_prevalence(m, prevalence)
    table = pd.DataFrame({k: _with_interval(k, v, len(set(preds.patients))) for k, v in m.items()}).T
    return table.rename_axis(f'{preds.positive} {point}')

def _at_prevalence(m, share):
    "What Bayes' rule makes of sensitivity and specificity among other people"
    if not 0 < share < 1: raise ValueError(f'prevalence={share} is no share of positive people; take one between 0 and 1.')
    sens, spec = m['sensitivity'], m['specificity']
    return {f'PPV at prevalence {share}': _share(sens*share, sens*share + (1 - spec)*(1 - share)),
            f'NPV at prevalence {share}': _share(spec*(1 - share), spec*(1 - share) + (1 - sens)*share)}

def _curves(W, score, ill):
    "Sensitivity, false alarm rate and precision at every threshold, descending, for each resample"
    found, alarms = [v[:, ::-1].cumsum(1) for v in _by_score(W, score, ill)]
    return _share(found, found[:, -1:]), _share(alarms, alarms[:, -1:]), _share(found, found + alarms)

def plot_curves(
    preds,       # `Predictions`
    point=OperatingPoint(), # Marked on both curves
    n=300,       # Resamples for the bands
    axs=None,    # Two matplotlib axes; default: new ones
): # The two axes
    "ROC and precision-recall curve with 95 % bands over patients"
    axs = plt.subplots(1, 2, figsize=(8, 3.6))[1] if axs is None else axs
    W, grid = np.vstack([np.ones(len(preds.truth)), _patient_weights(preds.patients, n)]), np.linspace(0, 1, 201)
    tpr, fpr, ppv = _curves(W, preds.probs, preds.truth)
    roc = np.array([np.interp(grid, np.r_[0, f], np.r_[0, t]) for f, t in zip(fpr, tpr)])
    pr = np.array([np.interp(grid, t, np.nan_to_num(p, nan=1.)) for t, p in zip(tpr, ppv)])
    m = metrics_table(preds, point, n=n)
    at = m.value
    for ax, c, x, y, name in ((axs[0], roc, 1 - at['specificity'], at['sensitivity'], 'AUROC'), (axs[1], pr, at['sensitivity'], at['PPV'], 'average precision')):
        ax.fill_between(grid, *np.nanpercentile(c[1:], [2.5, 97.5], axis=0), alpha=.25, label='95 % of resamples')
        ax.plot(grid, c[0], label=f'{name} {at[name]:.3f} ({m.low[name]:.3f} to {m.high[name]:.3f})')
        ax.plot(x, y, 'o', color='C3', label=f'called from {point.threshold:.2f} up')
        ax.set(xlim=(-.02, 1.02), ylim=(-.02, 1.02)); ax.legend(loc='lower right', fontsize=8)
    axs[0].set(title=f'ROC curve, {preds.split}', xlabel='1 - specificity', ylabel='sensitivity')
    axs[1].set(title=f'Precision and recall, {preds.split}', xlabel='recall (sensitivity)', ylabel='precision (PPV)')
    return axs

@dataclass
class Comparison:
    "Two networks on the same films"
    table:pd.DataFrame # A row per metric: a, b, difference (b - a) and the ends of its 95 % interval
    only_a:int         # Films that only the first has right
    only_b:int         # Films that only the second has right
    p:float            # McNemar's exact test: chance of so uneven a split if both were equally good

def compare_models(
    a,      # `Predictions` of one network
    b,      # `Predictions` of another for the same films, in the same order
    point_a=OperatingPoint(), # Threshold of the first
    point_b=OperatingPoint(), # Threshold of the second
    n=2000, # Resamples
    seed=0, # Of the random numbers
) -> Comparison: # Differences with intervals, and McNemar's test
    "Compare two networks film by film; raises `ValueError` where they did not read the same films"
    apart = lambda x, y: x is not None and y is not None and (len(x) != len(y) or (np.asarray(x, str) != np.asarray(y, str)).any())
    if any(apart(getattr(a, k), getattr(b, k)) for k in ('truth', 'patients', 'files')):
        raise ValueError(f'The two networks read different films ({len(a.truth)} and {len(b.truth)}); a paired comparison needs the same ones in the same order.')
    W = np.vstack([np.ones(len(a.truth)), _patient_weights(a.patients, n, seed)])
    ma, mb = _all_metrics(a, W, point_a), _all_metrics(b, W, point_b)
    rows = {k: dict(a=ma[k][0], b=mb[k][0], difference=mb[k][0] - ma[k][0], **dict(zip(('low', 'high'), _interval((mb[k] - ma[k])[1:])))) for k in ma}
    right_a, right_b = [np.where(p.truth, *calls(p, t)) for p, t in ((a, point_a), (b, point_b))]
    counts = [[(x & y).sum() for y in (right_b, ~right_b)] for x in (right_a, ~right_a)]
    return Comparison(pd.DataFrame(rows).T, int(counts[0][1]), int(counts[1][0]), float(mcnemar(counts, exact=True).pvalue))

def film_kind(
    file, # Name of a film, in the official style
) -> str: # 'bacteria', 'virus', 'IM', 'NORMAL2', or the folder's name where the film's says nothing
    "The subgroup that a film's name gives away"
    found = re.search(r'_(bacteria|virus)_|^(NORMAL2|IM)-', Path(str(file)).name)
    return found[1] or found[2] if found else Path(str(file)).parent.name

def subgroups(
    preds,  # `Predictions`
    groups, # Group of each film (films,)
    point=OperatingPoint(), # Threshold
    n=2000, # Resamples
    seed=0, # Of the random numbers
) -> pd.DataFrame: # A row per group and metric: films, patients, value, low, high, note
    "Sensitivity, specificity and AUROC of each group; with fewer than ten patients a group gets no interval, and the table says so"
    groups, rows, made = np.asarray(groups, str), {}, calls(preds, point)
    if len(groups) != len(preds.truth): raise ValueError(f'{len(groups)} groups for {len(preds.truth)} films; give one per film.')
    for g in np.unique(groups):
        of = groups == g
        ill, patients = preds.truth[of], preds.patients[of]
        wide = len(set(patients)) >= 10
        W = np.vstack([np.ones(of.sum()), *([_patient_weights(patients, n, seed)] if wide else [])])
        m = {**_rates(W, ill, *(c[of] for c in made)), 'AUROC': _auroc(W, preds.probs[of], ill)}
        for k in ('sensitivity', 'specificity', 'AUROC'):
            if np.isnan(m[k][0]): continue # a group of one class has only one of them
            ends = _with_interval(k, m[k], len(set(patients))) if wide else dict(value=m[k][0], low=np.nan, high=np.nan)
            rows[g, k] = dict(films=of.sum(), patients=len(set(patients)), **ends, note='' if wide else 'too few patients to say anything')
    return pd.DataFrame(rows).T.rename_axis(['group', 'metric'])

def plot_subgroups(
    table,   # From `subgroups`
    ax=None, # matplotlib axes to draw on; default: new ones
): # The matplotlib axes
    "Each group's rate with its interval"
    ax = plt.subplots(figsize=(6.4, .5 + .5*len(table)))[1] if ax is None else ax
    value, low, high = [table[k].astype(float).values for k in ('value', 'low', 'high')]
    names = [f'{g}: {m} ({r.films} films)' for (g, m), r in table.iterrows()]
    ax.errorbar(value, range(len(table)), xerr=np.nan_to_num([value - low, high - value]).clip(0), fmt='o', capsize=3)
    ax.set(yticks=range(len(table)), yticklabels=names, ylim=(-.6, len(table) - .4), xlim=(None, 1.01), title='Where does it fail?', xlabel='rate, with 95 % interval by patient')
    ax.grid(axis='x', alpha=.4)
    return ax
