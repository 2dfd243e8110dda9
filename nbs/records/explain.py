"""The exam of the maps: trains what it needs below runs/ (a finished run is kept), and adds what it measures to nbs/explain.json.

python nbs/records/explain.py exam [NAME ...]    every method, guess and ceiling on phantoms, or those named
python nbs/records/explain.py shortcut           a network that was trained where a letter gives the class away
python nbs/records/explain.py sanity [FOLDER]    randomised weights and other seeds; with FOLDER on its real films too, by the networks of `nbs/records/record.py FOLDER --recipes default`

Method and cut were chosen on validation films of the default phantoms; the films scored are of another draw of patients, by which nothing was chosen.
"""
import json, shutil, sys, time
from dataclasses import asdict, replace
from pathlib import Path
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from cxr_nb.all import (METHODS, RECIPES, attributions, choose_cut, environment, explain, find_films, fingerprint, lesion_masks, load_classifier,
                        log_odds, lung_prior, map_correlation, map_scores, patient_id, bootstrap_weights, phantom_data, plot_explanation, pooled, randomised,
                        rate_interval, read_xrays, read_image, score_table, swap_curve, train_run, train_seeds)

root, draw, shares = Path(__file__).parents[2], dict(n_train=4, val_films=2, n_test=160, seed=21), (0, .05, .1, .2, .3, .5, 1)
runs, chosen = root/'runs', 'HiResCAM, shifted'
slow = 'integrated gradients', 'occlusion' # these are asked of one network, and left out of the other checks
checked = ['Grad-CAM', 'HiResCAM, stride 16', chosen, 'gradient']

def marked_data():
    "Phantoms whose letter gives the class away: beside every lesion, and beside no normal chest"
    path = runs/'explain-marked'
    if path.exists(): return path
    part = path.with_suffix('.part')
    shutil.rmtree(part, ignore_errors=True)
    for markers, finding in ((0, 'NORMAL'), (1, 'PNEUMONIA')):
        for split in ('train', 'val', 'test'): shutil.copytree(phantom_data(markers=markers)/split/finding, part/split/finding)
    part.rename(path)
    return path

def networks():
    "The series of the default recipe, which `nbs/records/record.py` makes too, and the network of the planted shortcut"
    honest = runs/'phantoms-default'
    if not (honest/'metrics.json').exists(): train_seeds(phantom_data(), replace(RECIPES['default'], seed=0), 3, honest)
    marked = runs/'explain-marked-default'
    if not (marked/'metrics.json').exists(): train_run(marked_data(), replace(RECIPES['default'], seed=0), marked)
    return [load_classifier(f) for f in sorted(honest.glob('seed-*'))], load_classifier(marked), honest

def squares_of(films, size): return np.stack(read_xrays(films, size))
def rows_of(table, **names): return [dict(**names, measure=k, **{c: round(float(v), 4) for c, v in r.items()}) for k, r in table.iterrows()]

def mean_interval(values, patients):
    return score_table(pd.DataFrame(dict(mean=values), dtype=float), patients).loc['mean'].round(4).to_dict()

def swapped(clf, squares, twins, maps):
    "Area under deletion and insertion of each film"
    area = lambda a, b, m: np.trapezoid(swap_curve(clf, a, b, m, shares), shares)
    return pd.DataFrame([dict(deletion=area(a, b, m), insertion=area(b, a, m)) for a, b, m in zip(squares, twins, maps)])

def exam(clfs, honest, names):
    "Every method, guess and ceiling: scores by network and kind of pneumonia, and the hit rate against the ceiling's"
    size, path = clfs[0].size, phantom_data(**draw)
    films = find_films(path/'test'/'PNEUMONIA')
    masks, squares = lesion_masks(films, **draw), squares_of(films, size)
    twins = squares_of([phantom_data(lesions=False, **draw)/f.relative_to(path) for f in films], size)
    patients, viral = np.array([patient_id(f) for f in films]), np.array(['virus' in f.name for f in films])
    groups = dict(all=viral | True, bacteria=~viral, virus=viral)
    said = pd.read_csv(honest/'predictions.csv').query("split == 'valid' and label == 'PNEUMONIA'")
    valid = [phantom_data()/'train'/f for f in said.file][::2]
    valid_masks, valid_squares = lesion_masks(valid), squares_of(valid, size)
    train = find_films(phantom_data(), 'train')
    ill = [f for f in train if f.parent.name == 'PNEUMONIA']
    guesses = {'flat': np.ones((4, 4)), 'lungs of the average film': lung_prior(squares_of(train, size)), 'usual places of lesions': pooled(lesion_masks(ill), 32).mean(0)}
    fixed = {k: np.stack([m]*len(films)) for k, m in guesses.items()} | {f'truth, {k} by {k}': pooled(masks, k) for k in (4, 8, 16)}
    rows, hits, cuts = [], {}, {}
    def add(name, network, maps, cut, swap=False):
        scores = map_scores(maps, masks, cut)
        hits[name, network] = scores.hit.values
        for g, of in groups.items(): rows.extend(rows_of(score_table(scores[of], patients[of]), method=name, network=network, group=g))
        if swap: # on every second film
            curves = score_table(swapped(clfs[0], squares[::2], twins[::2], maps[::2]), patients[::2])
            rows.extend(rows_of(curves, method=name, network=network, group='all'))
    for name in names or METHODS:
        if name not in METHODS: continue
        started, maps = time.time(), [attributions(c, squares, name) for c in (clfs[:1] if name in slow else clfs)]
        few = slice(0, None, 4 if name in slow else 1)
        cuts[name] = choose_cut(attributions(clfs[0], valid_squares[few], name), valid_masks[few])
        for i, m in enumerate(maps): add(name, f'seed {i}', m, cuts[name], swap=i == 0)
        if len(maps) > 1: add(name, 'together', sum(c.temperature*m for c, m in zip(clfs, maps))/len(maps), cuts[name])
        print(f'{name}: hit {hits[name, "seed 0"].mean():.2f}, {time.time() - started:.0f} s', flush=True)
    same = [np.stack([m]*len(valid)) for m in guesses.values()] + [pooled(valid_masks, k) for k in (4, 8, 16)]
    for (name, m), v in zip(fixed.items(), same):
        if names and name not in names: continue
        cuts[name] = choose_cut(v, valid_masks)
        add(name, 'seed 0', m, cuts[name], swap=True)
    W, target = bootstrap_weights(patients), []
    if (chosen, 'seed 0') not in hits: return dict(cuts=cuts, exam=rows)
    top = map_scores(fixed['truth, 8 by 8'], masks).hit.values
    for network in ('seed 0', 'seed 1', 'seed 2', 'together'):
        h = hits[chosen, network]
        low, high = np.percentile(W@h/(W@top), [2.5, 97.5])
        target.append(dict(network=network, hit_rate=round(h.mean(), 4), ceiling=round(top.mean(), 4), ratio=round(h.mean()/top.mean(), 4), low=round(low, 4), high=round(high, 4)))
    print(pd.DataFrame(target), flush=True)
    return dict(films=len(films), patients=len(set(patients)), guesses=list(guesses), cuts=cuts, exam=rows, target=target)

def one_each(path, n=16):
    "Films with pneumonia of the test, one of each patient"
    films = {patient_id(f): f for f in find_films(path/'test'/'PNEUMONIA')}
    return list(films.values())[::max(1, len(films)//n)][:n]

def sanity(clfs, films, name):
    "Rank correlation of maps with those of randomised weights, of other seeds and of other films"
    squares, patients, rows = squares_of(films, clfs[0].size), [patient_id(f) for f in films], []
    for method in checked:
        own = attributions(clfs[0], squares, method)
        others = {'other films': np.roll(own, 1, 0), 'other seeds': attributions(clfs[1], squares, method)}
        for share in (.3, 1): others[f'{share:.0%} of the layers random'.replace('100% of the', 'all')] = attributions(randomised(clfs[0], share), squares, method)
        rows += [dict(data=name, method=method, compared=k, **mean_interval(map_correlation(own, m), patients)) for k, m in others.items()]
        print(name, method, {r['compared']: r['value'] for r in rows[-4:]}, flush=True)
    return rows

def shortcut(clf, honest):
    "Does the highest point of a cheating network's maps lie at the letter?"
    paths = {k: phantom_data(markers=k, **draw) for k in (0, 1)}
    films = {k: find_films(p, 'test') for k, p in paths.items()}
    ill = np.array([f.parent.name == 'PNEUMONIA' for f in films[1]])
    odds = {k: log_odds(clf.logits(squares_of(f, clf.size)), clf.vocab, clf.positive) for k, f in films.items()}
    own = log_odds(honest.logits(squares_of(films[0], clf.size)), honest.vocab, honest.positive)
    auroc = {'trained with the letter, letters beside lesions alone': roc_auc_score(ill, np.where(ill, odds[1], odds[0])),
             'trained with the letter, no letters': roc_auc_score(ill, odds[0]),
             'trained with the letter, letters beside normals alone': roc_auc_score(ill, np.where(ill, odds[0], odds[1])),
             'honest, no letters': roc_auc_score(ill, own)}
    marked = [f for f, i in zip(films[1], ill) if i]
    letters = []
    for f in marked:
        a, b = [np.asarray(read_image(p), int) for p in (f, paths[0]/f.relative_to(paths[1]))]
        letters.append(ndimage.distance_transform_edt(np.abs(a - b) < 60) <= len(a)/22) # a film is 22 cm high
    patients, squares, rows = [patient_id(f) for f in marked], squares_of(marked, clf.size), []
    for method in METHODS:
        if method in slow: continue
        for who, c in (('trained with the letter', clf), ('honest', honest)):
            hit = map_scores(attributions(c, squares, method), letters).hit.values
            value, low, high = rate_interval(hit, patients)
            rows.append(dict(method=method, network=who, value=round(value, 4), low=round(low, 4), high=round(high, 4)))
        print('caught', method, [r['value'] for r in rows[-2:]], flush=True)
    draw_shortcut(clf, honest, marked[::len(marked)//4][:4])
    return dict(films=len(marked), patients=len(set(patients)), auroc={k: round(float(v), 4) for k, v in auroc.items()}, caught=rows)

def draw_shortcut(clf, honest, films):
    fig, axs = plt.subplots(2, 4, figsize=(16, 5.6), layout='constrained')
    masks = lesion_masks(films, **draw)
    for line, (who, c) in zip(axs, (('honest', honest), ('trained with the letter', clf))):
        for ax, f, mask in zip(line, films, masks):
            plot_explanation(explain(c, f, chosen), mask, ax=ax)
            ax.set_title(f'{who}\n{ax.get_title()}', fontsize=10)
    fig.savefig(root/'nbs'/'records'/'images'/'shortcut.png', dpi=65)
    plt.close(fig)

if __name__ == '__main__':
    what, *more = sys.argv[1:]
    started, (clfs, marked, honest) = time.time(), networks()
    if what == 'exam': new = exam(clfs, honest, more)
    elif what == 'shortcut': new = dict(shortcut=shortcut(marked, clfs[0]))
    else:
        rows = sanity(clfs, one_each(phantom_data(**draw)), 'phantoms')
        if more:
            real = [load_classifier(f) for f in sorted((runs/'real-default').glob('seed-*'))]
            rows += sanity(real, one_each(Path(more[0])), 'real films')
        new = dict(sanity=rows)
    file = root/'nbs'/'records'/'explain.json'
    old = json.loads(file.read_text()) if file.exists() else {}
    if 'exam' in new: # what is not measured anew stays, in the order of the table
        again, order = set(r['method'] for r in new['exam']), [*METHODS, 'flat', 'lungs of the average film', 'usual places of lesions', *(f'truth, {k} by {k}' for k in (4, 8, 16))]
        new['exam'] = sorted([*(r for r in old.get('exam', []) if r['method'] not in again), *new['exam']], key=lambda r: order.index(r['method']))
        new['cuts'] = {**old.get('cuts', {}), **new['cuts']}
    about = dict(recipe=asdict(RECIPES['default']), seeds=[0, 1, 2], runs=[c.about['id'] for c in (*clfs, marked)], **environment(),
                 data=dict(trained='phantom_data()', scored=draw, fingerprint=fingerprint(phantom_data(**draw))))
    before = old.get('seconds', {})
    seconds = {**before, what: round(time.time() - started) + (before.get(what, 0) if what == 'exam' and more else 0)}
    file.write_text(json.dumps({**old, **about, **new, 'seconds': seconds}, indent=1) + '\n')
