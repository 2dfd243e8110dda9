"""The files and folders of the public cases, made from phantoms or pydicom's own; public_cases.py asks about them."""
import os, re, shutil
from pathlib import Path
import numpy as np
import pydicom
import timm
import torch
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate
from cxr_nb.phantom import make_patient, render_xray, write_dicom

SHIPPED = Path(pydicom.__file__).parent/'data'/'test_files'
def deepened(levels, bits): return ((levels.astype(np.int64)*(2**bits - 1) + 127)//255).astype(np.uint16)

def lookup(entries, bits):
    "A table of DICOM that declares so many bits"
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries) % 2**16, 0, bits], [int(e) for e in entries]
    item['LUTDescriptor'].VR = item['LUTData'].VR = 'US'
    return [item]

PLACE = '1234567890123456' # of a text that pydicom would not write

class Maker:
    "Files of all cases in a folder, and the tries that are made with them"
    def __init__(self, folder):
        self.folder, self.tries = folder, []
        self.film = render_xray(make_patient(4, 'bacteria'), size=256, marker='L')
        self.twelve = deepened(self.film, 12)
        self.xrays = [Image.fromarray(render_xray(make_patient(i), size=192)) for i in range(3)]

    def add(self, no, what, ask, expect, *words, wanted='answer', **options):
        "A try of a case: what `ask` should say of `words`, a pattern or a largest error; `wanted` is 'answer' or 'refusal'"
        self.tries.append(dict(no=no, what=what, ask=ask, expect=expect, wanted=wanted, words=list(map(str, words)), options=options))

    def place(self, name=''):
        place = self.folder/f'{len(self.tries):03d}'/name
        (place if not name else place.parent).mkdir(parents=True, exist_ok=True)
        return place

    def dicom(self, pixels=None, bits=8, text=(), **tags):
        "A DICOM file; `text` replaces what stands for it, to the same length"
        file = self.place('a.dcm')
        write_dicom(file, self.film if pixels is None else pixels, bits, **tags)
        content = file.read_bytes()
        for new in text: content = content.replace(PLACE.encode(), new.encode('latin-1').ljust(16), 1)
        file.write_bytes(content)
        return file

    def read(self, no, what, file, true=None, most=1, **options):
        "It should be read within `most` grey levels of the true image"
        np.save(self.place('true.npy'), self.film if true is None else true)
        self.add(no, what, 'read', most, file, self.place('true.npy'), **options)

    def refuse(self, no, what, file, why): self.add(no, what, 'judge', why, file, wanted='refusal')

    def image(self, name, im=None, **how):
        (im or Image.fromarray(self.film)).save(self.place(name), **how)
        return self.place(name)

def depths(m):
    "1 to 8 and 13 to 19: numbers, and what the header says of them"
    ten, twelve, inverted = deepened(m.film, 10), m.twelve, dict(photometric='MONOCHROME1')
    m.read(1, 'a modality table declares 16 bits, holds 10', m.dicom(ten, 10, ModalityLUTSequence=lookup(range(1024), 16)))
    m.read(2, 'a VOI table declares 16 bits, holds 12', m.dicom(twelve, 12, VOILUTSequence=lookup(range(4096), 16)))
    m.read(2, 'a VOI table declares 16 bits, holds 8', m.dicom(m.film, VOILUTSequence=lookup(range(256), 16)))
    for bits in (10, 12, 14):
        deep = deepened(m.film, bits)
        m.read(3, f'{bits} bits in 16', m.dicom(deep, 16))
        m.read(3, f'{bits} bits in 16, MONOCHROME1', m.dicom(2**bits - 1 - deep, 16, **inverted))
        m.read(3, f'{bits} bits in 16, signed', m.dicom(deep.astype(np.int16) - 2**(bits - 1), 16))
    m.read(4, '16-bit PNG of 15 bits', m.image('a.png', Image.fromarray(deepened(m.film, 15))))
    hot = twelve.copy()
    hot[0, 0] = 65535
    true = m.film.copy()
    true[0, 0] = 255
    m.read(4, '16-bit PNG of 12 bits, one hot pixel', m.image('a.png', Image.fromarray(hot)), true)
    m.read(5, 'window beside all pixels', m.dicom(twelve, 12, WindowCenter=30000, WindowWidth=10))
    small = dict(RescaleSlope=str(round(1/4095, 9)), RescaleIntercept=0, WindowCenter='0.5', WindowWidth='1')
    m.read(6, 'window of width 1 after a small slope', m.dicom(twelve, 12, **small))
    m.read(6, 'the same, LINEAR_EXACT', m.dicom(twelve, 12, **small, VOILUTFunction='LINEAR_EXACT'))
    for center in ('NaN', '2048,0', 'AUTO', '\\2048', '2048\\', '1e400', '2048.0', '  2048'):
        m.read(7, f'window center {center}', m.dicom(twelve, 12, [center], WindowCenter=PLACE, WindowWidth=4096))
    for width in ('0', '-4096'): m.read(7, f'window width {width}', m.dicom(twelve, 12, WindowCenter=2048, WindowWidth=width))
    m.read(8, 'empty rescale', m.dicom(RescaleSlope=None, RescaleIntercept=None))
    m.read(8, 'empty window', m.dicom(WindowCenter=None, WindowWidth=None))
    for tag in ('ModalityLUTSequence', 'VOILUTSequence'): m.read(8, f'{tag} with an empty item', m.dicom(**{tag: [Dataset()]}))
    m.read(13, 'bits above BitsStored set', m.dicom(twelve | 0xA000, 16, BitsStored=12, HighBit=11))
    m.read(13, '8 bits of 16', m.dicom(m.film.astype(np.uint16), 16, BitsStored=8, HighBit=7))
    m.read(14, 'left-justified: HighBit 15, BitsStored 12', m.dicom(twelve << 4, 16, BitsStored=12, HighBit=15))
    m.read(15, 'values of 14 bits, BitsStored 12', m.dicom(deepened(m.film, 14), 16, BitsStored=12, HighBit=11))
    m.read(15, 'the same, signed', m.dicom(deepened(m.film, 14).astype(np.int16) - 8192, 16, BitsStored=12, HighBit=11))
    bordered = m.film.copy()
    bordered[:, :20] = 0
    def padded(numbers, value):
        numbers = numbers.copy()
        numbers[:, :20] = value
        return numbers
    m.read(16, 'padding 0 in MONOCHROME1', m.dicom(padded(np.maximum(4095 - twelve, 1), 0), 12, **inverted, PixelPaddingValue=0), bordered)
    for way, numbers, tags in (('', twelve, {}), (' in MONOCHROME1', 4095 - twelve, inverted)):
        m.read(16, f'padding 65535{way}', m.dicom(padded(numbers, 65535), 16, **tags, PixelPaddingValue=65535), bordered)
    m.refuse(17, 'MONOCHROME2 to be shown INVERSE', m.dicom(PresentationLUTShape='INVERSE'), 'shown inverted')
    raw = dict(PresentationIntentType='FOR PROCESSING', PixelIntensityRelationship='LIN')
    m.refuse(18, 'FOR PROCESSING, LIN', m.dicom(twelve, 12, **raw), 'raw detector image')
    for bits in (12, 15): m.read(19, f'MONOCHROME1, {bits} bits', m.dicom(2**bits - 1 - deepened(m.film, bits), bits, **inverted))

def containers(m):
    "9, 10, 20 to 25: how the file is written"
    whole = m.dicom().read_bytes()
    ds = dcmread(m.dicom())
    del ds.file_meta.TransferSyntaxUID
    ds.save_as(m.place('a.dcm'), implicit_vr=False, little_endian=True)
    m.read(9, 'no TransferSyntaxUID', m.place('a.dcm'))
    ds = dcmread(m.dicom())
    del ds.PixelData
    ds.save_as(m.place('a.dcm'))
    m.refuse(9, 'no PixelData', m.place('a.dcm'), 'holds no picture')
    for what, start in (('with', b'\x02\0\0\0UL'), ('without', b'\x08\0\x16\0UI')):
        m.place('IM1').write_bytes(whole[whole.index(start):])
        m.read(10, f'no preamble, {what} file meta', m.place('IM1'))
        m.place('a/IM1').write_bytes(whole[whole.index(start):])
        m.add(10, f'the same, {what}, in a folder, without a suffix', 'found', '^1 X-rays', m.place('a'))
    for syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.DeflatedExplicitVRLittleEndian):
        ds = dcmread(m.dicom(m.twelve, 12))
        if syntax.is_encapsulated: ds.compress(syntax)
        else: ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(m.place('a.dcm'))
        m.read(20 if syntax.is_encapsulated else 23, syntax.name, m.place('a.dcm'))
    ds = dcmread(SHIPPED/'JPGExtended.dcm')
    ds.Modality, ds.BodyPartExamined = 'DX', 'CHEST'
    ds.save_as(m.place('a.dcm'))
    m.refuse(21, 'JPEG of 12 bits', m.place('a.dcm'), 'compressed.*export it uncompressed')
    ds = dcmread(m.dicom())
    ds.file_meta.TransferSyntaxUID, ds.PixelData = uid.JPEG2000Lossless, encapsulate([b'no JPEG at all'])
    ds['PixelData'].is_undefined_length = True
    ds.save_as(m.place('a.dcm'))
    m.refuse(22, 'fragments that are no JPEG', m.place('a.dcm'), 'could not be decoded')
    m.add(23, "all of pydicom's own files", 'survey', r'\b0 crashed', SHIPPED)
    private = m.place('a.dcm')
    private.write_bytes(whole.replace(b'1.2.840.10008.1.2.1\0', b'1.2.840.113619.5.2\0\0'))
    m.refuse(24, 'private transfer syntax', private, 'private transfer syntax')
    for name in ('SC_rgb_rle.dcm', 'SC_ybr_full_422_uncompressed.dcm', 'examples_palette.dcm', 'SC_rgb_small_odd.dcm'):
        ds = dcmread(SHIPPED/name)
        ds.Modality, ds.BodyPartExamined = 'OT', 'CHEST'
        ds.save_as(m.place('a.dcm'))
        m.refuse(25, name, m.place('a.dcm'), 'is in colour')
    m.refuse(25, 'RGB, all grey', m.dicom(np.dstack([m.film]*3), photometric='RGB'), 'is in colour')

def headers(m):
    "11 and 12: what is shown, and from where"
    for part in ('TORAX', 'PORT CHEST', '2- TORAX', 'CHESTPA', 'T?RAX', 'TÒRAX', 'TÃ\x92RAX', 'PECHO', 'BRUST', 'POITRINE', 'KLATKA'):
        m.read(11, f'body part {part!a}', m.dicom(text=[part], BodyPartExamined=PLACE))
    m.refuse(11, 'body part SKULL', m.dicom(BodyPartExamined='SKULL'), 'shows SKULL')
    m.read(11, 'body part SKULL, overruled', m.dicom(BodyPartExamined='SKULL'), trust_header=False)
    for tag in ('SeriesDescription', 'ProtocolName', 'AcquisitionDeviceProcessingDescription'):
        m.refuse(12, f'LATERAL in {tag} alone', m.dicom(ViewPosition='', **{tag: 'CHEST LATERAL'}), 'not a frontal view')

def images(m):
    "26 to 29: other formats"
    im = Image.fromarray(m.film)
    for name in ('a.tif', 'a.gif', 'a.webp', 'a.png', 'a.mpo'):
        pages = dict(save_all=True, append_images=[Image.fromarray(m.film[:, ::-1])])
        m.refuse(26, f'two pictures in {name[1:]}', m.image(name, **pages), 'holds several pictures')
    m.place('a.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(200))
    m.refuse(27, 'HEIC', m.place('a.heic'), "phone's own image format")
    lossless = dict(lossless=True, format='WebP')
    for what, name, mode, how in (('WebP called .png', 'a.png', 'RGB', lossless), ('PNG called .dcm', 'a.dcm', 'L', dict(format='PNG')),
                                  ('LA', 'a.png', 'LA', {}), ('palette', 'a.png', 'P', {}), ('RGBA', 'a.png', 'RGBA', {})):
        m.read(28, what, m.image(name, im.convert(mode), **how))
    m.read(28, 'JPEG 2000 of 16 bits', m.image('a.jp2', Image.fromarray(deepened(m.film, 16))))
    m.dicom().rename(m.place('a.IMA'))
    m.read(28, 'DICOM called .IMA', m.place('a.IMA'))
    # of lossy ones, what the picture lost is allowed
    for name, mode in (('a.jfif', 'L'), ('a.JPEG', 'L'), ('a.avif', 'RGB'), ('a.jpg', 'CMYK')):
        m.read(28, f'{name[1:]}, {mode}', m.image(name, im.convert(mode), quality=95), most=16)
    for mode in ('L', 'RGB', 'RGBA'): m.read(29, f'PNG of {len(mode)} channels', m.image('a.png', im.convert(mode)))

def odd_pictures(m):
    "51 and 52: what is no chest X-ray"
    shot = np.full((300, 600), 240, np.uint8)
    shot[20:276, 20:20 + m.film.shape[1]] = m.film
    shot[40:200:12, 430:580] = 30
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    bars = np.kron(np.indices((8, 8)).sum(0) % 2*255, np.ones((32, 32))).astype(np.uint8)
    looks = 'does not look like'
    for what, pixels in (('inverted', 255 - m.film), ('a screenshot', shot), ('a ramp', ramp), ('a chessboard', bars)):
        m.refuse(51, what, m.image('a.png', Image.fromarray(pixels)), looks)
    for name in ('MR_small.dcm', 'JPEG2000.dcm'):
        ds = dcmread(SHIPPED/name)
        ds.Modality, ds.BodyPartExamined = 'OT', ''
        ds.save_as(m.place('a.dcm'))
        m.refuse(51, f'{name} as OT', m.place('a.dcm'), looks)
    m.refuse(52, 'two X-rays side by side', m.image('a.png', Image.fromarray(np.hstack([m.film, m.film]))), looks)

def noise(file, i):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40), np.uint8)).save(file)

def data_set(folder, names, n=15, splits=('train/', 'test/')):
    "A folder of `n` patients in each class and split; `names` are a class and the start of its files' names"
    for s, split in enumerate(splits):
        for c, (label, stem) in enumerate(names):
            for i in range(n): noise(folder/split/label/f'{stem}{100*s + 50*c + i:04d}-0001.png', 1000*s + 100*c + i)
    return folder

OFFICIAL = ('NORMAL', 'IM-'), ('PNEUMONIA', 'NORMAL2-IM-')
ALL = '60 X-rays of 60 patients, 30 positive'

def labels_of(folder, heading, rows, name='labels.csv', encoding='utf-8'):
    (folder/name).write_text('\n'.join([heading, *rows]), encoding=encoding)
    return folder

def data_sets(m):
    "32 and 40 to 49: folders and tables"
    def ask(no, what, folder, expect=ALL, **options):
        m.add(no, what, 'dataset', expect, folder, wanted='answer' if 'positive' in expect.split() else 'refusal', **options)
    def official(*splits, n=15): return data_set(m.place(), OFFICIAL, n, splits or ('train/', 'test/'))
    looped = official()
    (looped/'train'/'NORMAL'/'again').symlink_to(looped/'train'/'NORMAL')
    ask(32, 'a link to its own folder, data set', looped)
    m.add(32, 'a link to its own folder, predict', 'found', '^60 X-rays', looped)
    ask(40, 'class folders without train and test', official('', n=30))
    ask(40, 'train alone', official('train/', n=30))
    stray = official()
    noise(stray/'train'/'x.png', 1)
    ask(40, 'files in train itself', stray, 'does not lie .*in a class folder')
    deep = official()
    noise(deep/'train'/'NORMAL'/'more'/'x.png', 1)
    ask(40, 'a folder in a class folder', deep, 'does not lie directly in .*move it there')
    extra = data_set(m.place(), [*OFFICIAL, ('ABSCESS', 'IM-9')], 10)
    ask(40, 'an extra class', extra, 'class.*--positive')
    ask(40, 'an extra class, positive named', extra, '60 X-rays of 60 patients, 20 positive', positive='PNEUMONIA')
    ask(42, 'Train/ and Test/', official('Train/', 'Test/'))
    ask(43, 'three classes, NORMAL the negative one', extra, '60 X-rays of 60 patients, 40 positive', negative='NORMAL')
    masked = data_set(m.place(), [(f'{c}/images', stem) for c, stem in OFFICIAL])
    for file in list(masked.rglob('*.png')): noise(Path(str(file).replace('images', 'masks')), 7)
    ask(44, 'images/ and masks/ in each class', masked)
    ask(45, 'names of Mendeley v3', data_set(m.place(), [('NORMAL', 'NORMAL-1'), ('PNEUMONIA', 'BACTERIA-1')]))
    for what, heading, positive, options in (
        ('NIH', 'Image Index,Finding Labels,Patient ID', 'Pneumonia', {}),
        ('RSNA', 'patientId,Target,who', '1', dict(file_column='patientId', label_column='Target', patient_column='who'))):
        folder = data_set(m.place(), [('.', 'x')], 60, ['images/'])
        names = [f.name for f in sorted((folder/'images').rglob('*.png'))]
        healthy = 'No Finding' if what == 'NIH' else '0'
        labels_of(folder, heading, [f'{name},{positive if i % 2 else healthy},p{i}' for i, name in enumerate(names)], 'Data.csv')
        ask(41, f'{what}: a folder and a CSV', folder, labels='Data.csv', **options)
    ways = {'capital headings': (',', 'utf-8', str), 'semicolons': (';', 'utf-8', str), 'a BOM': (',', 'utf-8-sig', str), 'UTF-16': ('\t', 'utf-16', str), 'cp1252': (';', 'cp1252', str),
            'backslashes': (',', 'utf-8', lambda p: p.replace('/', '\\')), './': (',', 'utf-8', lambda p: f'./{p}'),
            'absolute paths': (',', 'utf-8', lambda p: f'C:\\Ada\\{p}'), 'bare names': (',', 'utf-8', lambda p: p.split('/')[-1])}
    for what, (separator, encoding, written) in ways.items():
        folder = data_set(m.place(), [('NORMAL', 'a'), ('PNEUMONIA', 'b')])
        files = sorted(f.relative_to(folder).as_posix() for f in folder.rglob('*.png'))
        heading = ['File', 'Patient'] if what == 'capital headings' else ['file', 'patient']
        rows = [separator.join([written(f), f'Müller {i}']) for i, f in enumerate(files)]
        ask(46, f'patients.csv with {what}', labels_of(folder, separator.join(heading), rows, 'patients.csv', encoding))
    for what, number, expect in (('empty', '', 'has no PatientID; list all'), ('the same for all', 'ANONYMOUS', 'are of one patient.*patients.csv')):
        folder = official()
        for file in list(folder.rglob('*.png')):
            write_dicom(file.with_suffix('.dcm'), np.asarray(Image.open(file)), PatientID=number)
            file.unlink()
        ask(47, f'PatientID {what}', folder, expect)
    leaky = official()
    shutil.copy(leaky/'train'/'NORMAL'/'IM-0000-0001.png', leaky/'test'/'NORMAL'/'IM-0000-0002.png')
    ask(48, 'a patient on both sides', leaky, '1 patients .* both train and test .IM-0000')
    messy = data_set(m.place(), [('normal', 'IM-'), ('viral pneumonia', 'NORMAL2-IM-')])
    noise(messy/'train'/'normal'/'.ipynb_checkpoints'/'IM-0000-0001.png', 1)
    for name in ('._IM-0001-0001.jpeg', 'Thumbs.db', '.DS_Store'): (messy/'train'/'normal'/name).write_bytes(b'junk')
    ask(49, 'lower case, spaces, hidden files', messy)
    m.place('gone.png').symlink_to('nowhere.png')
    m.refuse(49, 'a broken link', m.place('gone.png'), 'is missing, or a link to a missing file')

def commands(m):
    "30, 31, 33 to 37, 39 and 50: what is typed"
    def folder(*names):
        place = m.place()
        for i, name in enumerate(names): m.xrays[i % 3].save(os.fsencode(place) + b'/' + os.fsencode(name), format='JPEG')
        return place
    plain = [f'{i}.jpeg' for i in range(3)]
    mixed = folder(*plain, 'scan', 'scan.jpg.1', 'scan.mpo', 'SCAN.JPG')
    (mixed/'all.zip').write_bytes(b'PK\3\4')
    (mixed/'all.npz').write_bytes(b'PK\3\4')
    m.add(30, 'JPEGs without suffix, .jpg.1, .mpo, and two archives', 'predict', '^7 answers.* Left out: 2 files', mixed)
    m.add(33, 'a name in latin-1', 'predict', '^6 answers', folder(*plain, os.fsdecode(b'M\xfcller.jpeg'), *'ab'))
    odd = folder('=cmd|calc.jpeg', 'a,b.jpeg', 'a"b.jpeg', 'a\nb.jpeg', '\U0001fac1.jpeg', '-1.jpeg')
    m.add(34, 'names with =, comma, quote, newline, emoji, from inside', 'predict', '^6 answers, 0 formulas', odd, here=True)
    m.add(35, 'maps of a name of 250 letters', 'predict', '^6 answers.*6 maps', folder(*plain, 'x'*245 + '.jpeg', *'ab'), maps=True)
    m.add(50, 'whom it was trained on', 'predict', 'Trained on: children', folder(*plain, *'abc'), people='children')
    data = data_set(m.place('set'), OFFICIAL, 40)
    for arch in ('swin_tiny_patch4_window7_224', 'mixer_s16_224'): # with a file of weights: the hub need not be there
        weights = m.place('weights.pth')
        torch.save(timm.create_model(arch).state_dict(), weights)
        words = 'cxr_train', data, '--arch', arch, '--weights', weights, '--size', 128, '--out', 'OUT'
        m.add(36, f'--arch {arch} at 128', 'command', 'takes no X-rays of 128 px.*--size 224', *words, wanted='refusal')
    broken = data_set(m.place(), OFFICIAL, 40)
    ds = dcmread(SHIPPED/'test-SR.dcm')
    ds.PatientID = 'SR'
    ds.save_as(broken/'train'/'NORMAL'/'a.dcm')
    quick = 'cxr_train', broken, '--size', 64, '--epochs', 1, '--out', 'OUT'
    m.add(31, 'a Structured Report among the files of train', 'command', 'unreadable.csv.*--skip-unreadable', *quick, wanted='refusal')
    m.add(31, 'the same, skipped', 'command', '^exit 0.*Classifier', *quick, '--skip-unreadable')
    m.add(37, 'IR version of the ONNX file', 'export', '^IR version [1-9]$', 'OUT')
    m.add(39, 'cloned below a path with spaces and umlauts, exported', 'clone', '^nothing changed$', 'OUT')

def make_cases(
    folder, # Where to put the files
): # What to try: a dictionary with the number, what it is, what to ask and what should be told
    "The files of all cases that can be made here"
    m = Maker(folder)
    for make in (depths, containers, headers, images, odd_pictures, data_sets, commands): make(m)
    return m.tries
