"""The picture of the front page, nbs/images/roc.png, from the recorded runs: python nbs/records/roc.py"""
import json
from dataclasses import replace
from pathlib import Path
import matplotlib.pyplot as plt
from sklearn.metrics import roc_curve
from cxr_nb.confidence import decisions, read_predictions
from cxr_nb.evaluate import OperatingPoint
from cxr_nb.threshold import apply_temperature

records = Path(__file__).parent
COLORS = {'walkthrough': '#7f7f7f', 'default': '#56b4e9', 'stronger': '#d55e00'}

def draw():
    fig, ax = plt.subplots(figsize=(6.4, 4.2), layout='constrained')
    for r in json.loads((records/'results.json').read_text(encoding='utf-8')):
        name = r['recipe']['name']
        if name not in COLORS: continue
        p = apply_temperature(read_predictions(records/'predictions'/r['predictions'])['test'], r['report']['temperature'])
        fpr, tpr, _ = roc_curve(p.truth, p.probs)
        label = None
        if len(r['seeds']) > 1: label = f"{name.split()[0]}, {len(r['seeds'])} networks together"
        if name == 'walkthrough': label = 'walkthrough with Lite0, one network'
        ax.step(fpr, tpr, where='post', color=COLORS[name], lw=2 if label else .8, alpha=1 if label else .5, label=label)
        if label:
            point = OperatingPoint(r['report']['point']['threshold'])
            found, cleared = decisions(replace(p, rejected=None), point) # the networks alone
            ax.plot(1 - cleared[~p.truth].mean(), found[p.truth].mean(), 'o', ms=8, color=COLORS[name], mec='white')
    ax.plot(1 - 189/234, 387/390, 'X', ms=9, color='black', label='as the walkthrough published it, 2020')
    ax.set(xlim=(-.005, .5), ylim=(.8, 1.003), xlabel='1 - specificity: normal X-rays classified positive',
           ylabel='sensitivity: pneumonias found', title='624 test X-rays; dots: at the threshold that validation chose')
    ax.grid(alpha=.3)
    ax.legend(loc='lower right', fontsize=9)
    fig.savefig(records.parent/'images'/'roc.png', dpi=110)

if __name__ == '__main__': draw()
