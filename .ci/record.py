"""The recorded runs on the phantoms: the default recipe, three seeds, each also read on the test with its lesions erased.

python .ci/record.py    train, and add the records to nbs/results.json
"""
import tempfile
from dataclasses import replace
from pathlib import Path
from cxr_nb.all import RECIPES, add_result, evaluate_run, phantom_data, train_run

results = Path(__file__).parent.parent/'nbs'/'results.json'

if __name__ == '__main__':
    path, erased = phantom_data(), phantom_data(lesions=False)
    for seed in (0, 1, 2):
        run = train_run(path, replace(RECIPES['demo'], seed=seed), Path(tempfile.mkdtemp())/f'demo-{seed}')
        add_result(run, results, auroc_lesions_erased=round(evaluate_run(run, erased).auroc.item(), 6))
