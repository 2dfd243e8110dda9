__version__ = "0.2.0"

_DOOR = dict(find_data='dataset', read_dataset='dataset', train_run='run', audit='auditing',
             load_classifier='classifier', Classifier='classifier', explain='maps',
             plot_explanation='maps', read_predictions='confidence', metrics_table='confidence')

def __getattr__(name): # ten names at the door, each imported when it is asked for (PEP 562)
    if name not in _DOOR: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_DOOR[name]}'), name)

def __dir__(): return sorted([*globals(), *_DOOR])
