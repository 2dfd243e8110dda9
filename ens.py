import os; os.chdir('/work/main/nbs')
from cxr_nb.all import *
from cxr_nb.confidence import *
from dataclasses import replace
from pathlib import Path
import numpy as np
from scipy.special import expit, logit
b=[]
for f in sorted(Path('predictions').glob('chest_xray-best-*.csv')):
    p=read_predictions(str(f)); b.append(logit(p['test'].score.clip(1e-6,1-1e-6))-logit(choose_point(p['valid'],sensitivity=.97).threshold))
t=replace(p['test'],probs=expit(np.mean(b,axis=0)))
print(metrics_table(t).loc[['AUROC','accuracy','sensitivity','specificity']])
