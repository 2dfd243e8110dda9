"Time four ways of training side by side, and believe none of them unmeasured."

import inspect, json, os, shutil, statistics, subprocess, sys, tempfile, time
from functools import partial
from pathlib import Path
from unittest.mock import patch
import numpy as np
import pandas as pd
import psutil
import timm
import torch
from PIL import Image
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (Adam, CancelValidException, Callback, ImageDataLoaders, PILImage, Resize, aug_transforms, default_device, imagenet_stats,
                               set_seed, vision_learner)
from torch import nn
from cxr_nb.film import read_film
from cxr_nb.data import find_data, find_films, get_dls, grey_copies, walkthrough_dls
from cxr_nb.model import build_model
from cxr_nb.train import get_learner, keep_memory, seconds
from cxr_nb.classifier import Classifier
from cxr_nb.run import environment

def _train_step(model, opt, x, y, amp=False):
    with torch.autocast(x.device.type, torch.bfloat16, enabled=amp): loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    opt.zero_grad()
    return loss.item() # waits until a GPU is really done

def _way(arch, x, fmt=torch.contiguous_format, fused=False, compiled=False, amp=False):
    "A training step, ready to be called"
    set_seed(0)
    model = build_model(arch, 2, pretrained=False).to(x.device, memory_format=fmt).train()
    opt = torch.optim.AdamW(model.parameters(), fused=fused)
    x, y = x.contiguous(memory_format=fmt), torch.arange(len(x), device=x.device) % 2
    model = torch.compile(model) if compiled else model
    return lambda: _train_step(model, opt, x, y, amp)

def step_ways(
    arch='tf_efficientnet_lite0', # timm's name of the model
    size=128,   # Height and width of the input, pixels
    bs=32,      # Films per batch
    rounds=5,   # Measurements of each way
    device=None, # Where to measure; default: fastai's choice
    compiled=True, # Also try `torch.compile`, which takes minutes and, on a CPU, a C++ compiler?
) -> pd.DataFrame: # Seconds of a step; a row per round, a column per way, NaN where a way does not work here
    "Time a training step with nothing special, and with one change at a time"
    x = torch.randn(bs, 3, size, size, device=device or default_device())
    options = {'nothing special': {}, 'channels_last': dict(fmt=torch.channels_last), 'fused AdamW': dict(fused=True), 'bfloat16': dict(amp=True),
               **({'torch.compile': dict(compiled=True)} if compiled else {}), 'channels_last and fused': dict(fmt=torch.channels_last, fused=True)}
    ways, times = {}, []
    for name, o in options.items():
        try:
            way = _way(arch, x, **o)
            way(); way() # the first calls pay for warming up
            ways[name] = way
        except Exception as e: print(f'{name} does not work here: {type(e).__name__}') # the compilers have errors of their own for each thing that can be missing
    for _ in range(rounds): times.append({k: seconds(f) for k, f in ways.items()})
    return pd.DataFrame(times, columns=list(options))

class _TrainOnly(Callback):
    def before_validate(self): raise CancelValidException

class Pipeline:
    "One way to feed and train a network, cut into stages; each stage is a function without arguments"
    def __init__(self,
        learn,  # Learner whose loaders hold the films
        decode, # From the path of a film to its pixels
        films,  # Paths of the training films
    ):
        self.learn, self.films, self.unpack = learn, films, decode
        with learn.no_logging(), learn.no_bar(): learn.fit(0, 1e-4) # lets the callbacks set the memory format
        learn.create_opt()
        self.raw = learn.dls.train.new(after_batch=[]).one_batch()

    def decode(self):
        "Unpack each film once"
        for f in self.films: self.unpack(f)

    def items(self):
        "Decode and transform each film once"
        for i in range(len(self.films)): self.learn.dls.train.do_item(i)

    def transforms(self):
        "What is done to a whole batch, for as many batches as an epoch has"
        for _ in range(len(self.learn.dls.train)): self.learn.dls.train.after_batch(self.raw)

    def resident(self):
        "The training steps of an epoch on one batch that is in memory, its transforms included: the limit for an epoch"
        model = self.learn.model.train()
        last = torch.channels_last if any(isinstance(c, ChannelsLast) for c in self.learn.cbs) else torch.contiguous_format
        for _ in range(len(self.learn.dls.train)):
            x, y = self.learn.dls.train.after_batch(self.raw)
            _train_step(model, self.learn.opt, x.as_subclass(torch.Tensor).contiguous(memory_format=last), y.as_subclass(torch.Tensor))

    def epoch(self):
        "A whole training epoch, without validation"
        with self.learn.no_logging(), self.learn.no_bar(): self.learn.fit(1, 1e-4, cbs=_TrainOnly())

    def infer(self):
        "The answers for all test films"
        with self.learn.no_bar(): return self.learn.get_preds(dl=self.learn.dls.valid)[0]

class _Ours(Pipeline):
    def infer(self):
        return self.classifier.answers(self.test)

class TimmLoop(Pipeline):
    "timm's loader with a plain PyTorch loop"
    def __init__(self,
        path,   # Data set: a folder of the official layout
        arch,   # timm's name of the model
        size,   # Height and width of the input, pixels
        bs,     # Films per batch
        device, # Where to train
    ):
        workers = os.cpu_count() if device.type == 'cpu' else min(16, os.cpu_count())
        loader = lambda split, train: timm.data.create_loader(timm.data.ImageDataset(str(path/split)), (3, size, size), bs, is_training=train,
                                                              use_prefetcher=device.type == 'cuda', num_workers=workers, device=device)
        self.device, self.train, self.test = device, loader('train', True), loader('test', False)
        self.model = build_model(arch, 2, pretrained=False).to(device, memory_format=torch.channels_last)
        self.opt = torch.optim.AdamW(self.model.parameters())
        self.films = find_films(path, 'train')
        self.unpack = lambda f: Image.open(f).convert('RGB')
        self.raw = self._ready(next(iter(self.train)))

    def _ready(self, batch): return batch[0].to(self.device, memory_format=torch.channels_last), batch[1].to(self.device)

    def items(self):
        for i in range(len(self.films)): self.train.dataset[i]

    def transforms(self): pass

    def resident(self):
        self.model.train()
        for _ in range(len(self.train)): _train_step(self.model, self.opt, *self.raw)

    def epoch(self):
        self.model.train()
        for batch in self.train: _train_step(self.model, self.opt, *self._ready(batch))

    def infer(self):
        self.model.eval()
        with torch.no_grad(): return torch.cat([self.model(self._ready(batch)[0]).cpu() for batch in self.test])

PIPELINES = ['walkthrough', 'vision_learner', 'timm loop', 'cxr_nb']

def make_pipeline(
    name,   # One of `PIPELINES`
    path,   # Data set: a folder of the official layout
    arch='tf_efficientnet_lite0', # timm's name of the model
    size=128, # Height and width of the input, pixels
    bs=32,  # Films per batch
    device=None, # Where to train; default: fastai's choice
) -> Pipeline:
    "One of the four ways, ready to be timed; raises `ValueError` for another name"
    device, films = torch.device(device or default_device()), find_films(path, 'train')
    if name == 'timm loop': return TimmLoop(path, arch, size, bs, device)
    if name not in PIPELINES: raise ValueError(f"There is no pipeline '{name}'; the four are {', '.join(PIPELINES)}.")
    net, quiet = partial(build_model, arch, 2, pretrained=False), dict(valid_name='test', patient=str, device=device) # the sample's test repeats its train
    if name == 'walkthrough': return Pipeline(get_learner(walkthrough_dls(path, bs, size, **quiet), net(), opt_func=Adam), PILImage.create, films)
    if name == 'vision_learner':
        dls = ImageDataLoaders.from_folder(path, valid='test', item_tfms=Resize(size), batch_tfms=aug_transforms(), bs=bs, device=device)
        return Pipeline(vision_learner(dls, arch, pretrained=False), PILImage.create, films)
    ours = _Ours(get_learner(get_dls(path, bs, size, **quiet), net()).add_cb(ChannelsLast()), partial(read_film, size=size), films)
    ours.test, ours.classifier = find_films(path, 'test'), Classifier([ours.learn.model], arch, size, imagenet_stats, list(ours.learn.dls.vocab), ours.learn.dls.vocab[1], mirror=False)
    return ours

def private_memory(
    code, # Python code to run
    every=.2, # Seconds between two looks
) -> float: # The most private memory that it and its workers held at a time, GiB
    "Run code in a new process and watch its private memory; raises `RuntimeError` where it fails"
    most = 0
    with tempfile.TemporaryFile('w+') as said:
        child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL, stderr=said)
        while child.poll() is None:
            try:
                main = psutil.Process(child.pid)
                most = max(most, sum(p.memory_full_info().uss for p in [main, *main.children(recursive=True)]))
            except psutil.Error: pass # a worker that ended between the list and the look
            time.sleep(every)
        said.seek(0)
        if child.returncode: raise RuntimeError(f"The measured process failed: {(said.read().strip().splitlines() or [f'exit status {child.returncode}'])[-1]}")
    return most / 2**30

STAGES = {'decode, first epoch': 'decode', 'decode and item transforms, later epochs': 'items', 'transforms of the batch': 'transforms',
          'steps on a resident batch': 'resident', 'later epoch': 'epoch', 'inference': 'infer'}

def _sample(path, n, to):
    "Copy n films, evenly over all training films, as train and as test"
    films = find_films(path, 'train')
    for i, film in enumerate(films[np.linspace(0, len(films) - 1, n).round().astype(int).tolist()]):
        for split in ('train', 'test'):
            (to/split/film.parent.name).mkdir(parents=True, exist_ok=True)
            file = shutil.copyfile(film, to/split/film.parent.name/f'{i}-{film.name}') # without its permissions: it may be read-only
            with open(file, 'ab') as f: f.write(i.to_bytes(4)) # other bytes, so that no repeated film finds its copy made
    return to

def _device(name):
    try: torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as e: raise ValueError(f"There is no device '{name}' here; leave --device out, or take cpu.") from e
    return torch.device(name)

def bench(
    path=None, # Data set, as for `find_data`
    arch='tf_efficientnet_lite0', # timm's name of the model
    size=128,  # Height and width of the input, pixels
    bs=32,     # Films per batch
    films=480, # Films in the sample, at least two batches; a smaller data set is repeated
    rounds=5,  # Times that each stage is measured
    device=None, # 'cpu', 'cuda' or 'mps'; default: fastai's choice
    quick=False, # Leave out memory and `torch.compile`, which take minutes?
) -> dict:     # The record: seconds[stage][pipeline] by round, step_ways, memory in GiB, machine and versions
    "Time the four pipelines side by side; raises `ValueError` for a device that is not there or too few films"
    device, path = _device(device or default_device()), find_data(path)
    for name, value, least in (('bs', bs, 2), ('rounds', rounds, 1), ('films', films, 2*bs)):
        if value < least: raise ValueError(f'{name}={value} is too few; take at least {least}{" for batches of " + str(bs) if name == "films" else ""}.')
    with tempfile.TemporaryDirectory() as tmp:
        data = _sample(path, films, Path(tmp)/'films')
        sample = find_films(data, 'train')
        keep_memory()
        ways = {name: make_pipeline(name, data, arch, size, bs, device) for name in PIPELINES}
        for p in ways.values(): p.epoch() # warming up
        took = {stage: {name: [] for name in PIPELINES} for stage in STAGES}
        for i in range(rounds):
            for stage, method in STAGES.items():
                for name, p in ways.items():
                    first = name == 'cxr_nb' and method == 'decode'
                    f = partial(_new_copies, sample, size, Path(tmp)/f'round{i}') if first else getattr(p, method)
                    took[stage][name].append(round(seconds(f), 4))
        record = dict(finished=time.strftime('%Y-%m-%d %H:%M'), films=len(sample), arch=arch, size=size, bs=bs, threads=torch.get_num_threads(),
                      data=dict(name=path.name, megapixels=round(statistics.median(np.prod(Image.open(f).size) for f in sample)/1e6, 2)), **environment(),
                      seconds=took, step_ways=step_ways(arch, size, bs, max(rounds, 3), device, not quick).round(5).to_dict('list'))
        if not quick:
            try: record['memory'] = _memory(data, arch, size, bs, device)
            except RuntimeError as e: print(f'Memory was not measured. {e}') # nor is what was measured before it lost
    return record

def _new_copies(films, size, cache):
    with patch.dict(os.environ, CXR_CACHE=str(cache)): grey_copies(films, size)

def _memory(data, arch, size, bs, device):
    "GiB of private memory: an epoch of each pipeline, and reading 1,000 or 5,000 films in batches as a run does, the least of five readings"
    start = f"""from cxr_nb.bench import *
from cxr_nb.data import FilmReader, TfmdLists, TfmdDL, Path, find_films
from cxr_nb.train import keep_memory
keep_memory()
data = Path(r'{data}')
films = find_films(data, 'train')
"""
    epoch = lambda name: private_memory(f"{start}make_pipeline('{name}', data, '{arch}', {size}, {bs}, '{device}').epoch()")
    read = lambda n: private_memory(f"""{start}many = (films * ({n}//len(films) + 1))[:{n}]
for batch in TfmdDL(TfmdLists(many, FilmReader(films, {size})), bs={bs}, num_workers=0): pass""")
    return {**{name: round(epoch(name), 4) for name in PIPELINES}, **{f'{n} films': round(min(read(n) for _ in range(5)), 4) for n in (1000, 5000)}}

def speed_table(
    record, # As from `bench`
) -> pd.DataFrame: # A row per stage, a column per pipeline: films per second, median over the rounds; NaN where a pipeline has no such stage
    "How many films a second each stage lets through"
    table = pd.DataFrame({stage: {name: record['films']/np.median(s) if np.median(s) > 1e-4 else np.nan for name, s in per.items()} for stage, per in record['seconds'].items()}).T
    if 'memory' in record: table.loc['private memory of an epoch, GiB'] = [record['memory'][n] for n in table]
    return table

def ratio_table(
    record, # As from `bench`
) -> pd.DataFrame: # A row per comparison: target, and ratio (above 1: ours is faster), its median, least and most over the rounds
    "Ours against the others, with the targets that this course has for films of full size"
    s = {stage: {name: np.array(v) for name, v in per.items()} for stage, per in record['seconds'].items()}
    s['first epoch, with its copies'] = {**s['later epoch'], 'cxr_nb': s['decode, first epoch']['cxr_nb'] + s['later epoch']['cxr_nb']} # the others decode in each epoch
    rows = {('decode, first epoch', 'walkthrough'): 3, ('decode and item transforms, later epochs', 'walkthrough'): 15, ('later epoch', 'walkthrough'): 2,
            ('later epoch', 'vision_learner'): 1.5, ('later epoch', 'timm loop'): 1.05,
            **{(stage, other): None for stage in ('first epoch, with its copies', 'inference') for other in ('walkthrough', 'vision_learner', 'timm loop')}}
    if record['data']['megapixels'] < .5: rows = dict.fromkeys(rows) # these targets are for films of full size
    found = [dict(stage=stage, against=other, target=target, ratio=s[stage][other]/s[stage]['cxr_nb']) for (stage, other), target in rows.items()]
    found.append(dict(stage='later epoch', against='its own resident batches', target=.95, ratio=s['steps on a resident batch']['cxr_nb']/s['later epoch']['cxr_nb']))
    table = pd.DataFrame(found)
    return table.assign(ratio=table.ratio.map(np.median), least=table.ratio.map(np.min), most=table.ratio.map(np.max)).set_index(['stage', 'against'])
