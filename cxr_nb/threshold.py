"A threshold chosen before the test, and probabilities that mean what they say."

from dataclasses import replace
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_curve
from cxr_nb.evaluate import OperatingPoint
from cxr_nb.confidence import Predictions, ece

_CONSENT = 'I choose on the test'

def check_share(
    name,  # What it is called
    value, # The share
): # Nothing
    "Raises `ValueError` for what is not above 0 and at most 1"
    if not 0 < value <= 1: raise ValueError(f'{name}={value} is out of range; take more than 0 and at most 1.')

def choose_point(
    preds,            # `Predictions` of the validation films
    sensitivity=None, # At least this much, above 0 and at most 1
    specificity=None, # At least this much, above 0 and at most 1; neither: Youden's J (Cancer 1950, 3:32)
    consent='',       # To use a test all the same: 'I choose on the test'
) -> OperatingPoint:  # The threshold and its story
    "Choose a threshold on validation; raises `ValueError` for a test, or where no threshold does what is wanted"
    if preds.split == 'test' and consent != _CONSENT:
        raise ValueError(f"These are films of the test, and a threshold chosen on them makes every number of it worthless; take validation, or say consent='{_CONSENT}'.")
    wanted = {k: v for k, v in dict(sensitivity=sensitivity, specificity=specificity).items() if v is not None}
    for k, v in wanted.items(): check_share(k, v)
    fpr, tpr, at = roc_curve(preds.truth, preds.probs, drop_intermediate=False)
    reached = (tpr >= (sensitivity or 0)) & (1 - fpr >= (specificity or 0)) & (tpr > 0) & (fpr < 1)
    if not reached.any(): raise ValueError(f'No threshold on {preds.split} gives {" and ".join(f"{k} {v}" for k, v in wanted.items())} without calling all films alike: {_nearest(fpr, tpr, sensitivity)}; ask for less.')
    best = np.where(reached, (tpr if specificity and not sensitivity else 1 - fpr) if wanted else tpr - fpr, -1)
    i = int(best.argmax())
    between = (at[i] + at[i+1])/2 if i + 1 < len(at) else at[i] # halfway to the next film, so that rounding does not decide
    rule = ' and '.join(f'{k} at least {v}' for k, v in wanted.items()) or "Youden's J"
    return OperatingPoint(float(between), rule, preds.split, len(preds.truth), float(tpr[i]), float(1 - fpr[i]))

def _nearest(fpr, tpr, sensitivity):
    spec = (1 - fpr)[tpr >= (sensitivity or 0)]
    return f'at that sensitivity the specificity is {spec.max():.3f} at most' if sensitivity else f'the highest specificity short of that is {(1 - fpr)[tpr > 0].max():.3f}'

def _logits(preds): return logit(np.clip(preds.probs, 1e-300, 1 - 1e-16)) # 0 and 1 have no logit

def fit_temperature(
    preds, # `Predictions` of the validation films
) -> float: # Above 1 where the network was too sure, below 1 where it was not sure enough
    "The temperature with the least log loss (Guo and others 2017, arXiv 1706.04599, p. 5); raises `ValueError` where no film is wrong, since then there is none"
    if ((preds.probs >= .5) == preds.truth).all():
        raise ValueError(f'All {len(preds.truth)} films of {preds.split} are right, so the lower the temperature the better, without end; calibrate on more films.')
    loss = lambda log_t: log_loss(preds.truth, expit(_logits(preds)/np.exp(log_t)))
    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method='bounded').x))

def at_temperature(
    preds,       # `Predictions`
    temperature, # From `fit_temperature`
) -> Predictions: # The same films, with other probabilities in the same order
    "Divide all logits by a temperature"
    if temperature <= 0: raise ValueError(f'temperature={temperature}: take one above 0, such as fit_temperature gives.')
    return replace(preds, probs=expit(_logits(preds)/temperature))

def plot_reliability(
    bins=10,  # Bins of equal width between 0 and 1
    ax=None,  # matplotlib axes to draw on; default: new ones
    **preds,  # `Predictions` by the name that the legend shows
): # The matplotlib axes
    "Share of positive films against the probability that was stated; on the diagonal, a probability means what it says"
    ax = plt.subplots(figsize=(4, 3.6))[1] if ax is None else ax
    ax.plot([0, 1], [0, 1], color='k', lw=.8)
    for name, p in preds.items():
        share, stated = calibration_curve(p.truth, p.probs, n_bins=bins)
        ax.plot(stated, share, 'o-', label=f'{name}: ECE {ece(p.probs, p.truth)[0]:.3f}')
    ax.set(title='Do the probabilities mean what they say?', xlabel=f'stated probability of {p.positive}', ylabel='share that was positive', xlim=(-.02, 1.02), ylim=(-.02, 1.02))
    ax.legend()
    return ax
