"""The picture of the front page, nbs/images/roc.png, from the recorded runs: python nbs/records/roc.py"""
import json
from pathlib import Path
import matplotlib.pyplot as plt
from sklearn.metrics import roc_curve
from cxr_nb.all import OperatingPoint, apply_temperature, decisions, read_predictions

nbs = Path(__file__).parents[2]/'nbs'
colors = dict(walkthrough='#7f7f7f', default='#56b4e9', stronger='#d55e00')

def draw():
    fig, ax = plt.subplots(figsize=(6.4, 4.2), layout='constrained')
    for r in json.loads((nbs/'results.json').read_text(encoding='utf-8')):
        name, members = r['recipe']['name'], len(r['seeds'])
        if r['data']['name'] != 'chest_xray' or name not in colors: continue
        p = apply_temperature(read_predictions(nbs/'predictions'/r['predictions'])['test'], r['report']['temperature'])
        fpr, tpr, _ = roc_curve(p.truth, p.probs)
        together = members > 1
        label = f"{name}, {members} networks together" if together else f'{name} with Lite0, one network' if name == 'walkthrough' else None
        ax.step(fpr, tpr, where='post', color=colors[name], lw=2 if label else .8, alpha=1 if label else .5, label=label)
        if label:
            found, cleared = decisions(p, OperatingPoint(r['report']['point']['threshold']))
            ax.plot(1 - cleared[~p.truth].mean(), found[p.truth].mean(), 'o', ms=8, color=colors[name], mec='white')
    ax.plot(1 - 189/234, 387/390, 'X', ms=9, color='black', label='as the walkthrough published it, 2020')
    ax.set(xlim=(-.005, .5), ylim=(.8, 1.003), xlabel='1 - specificity: normal films called positive',
           ylabel='sensitivity: pneumonias found', title='624 test films; dots: at the threshold that validation chose')
    ax.grid(alpha=.3)
    ax.legend(loc='lower right', fontsize=9)
    fig.savefig(nbs/'images'/'roc.png', dpi=110)

if __name__ == '__main__': draw()
