"""
Metrics of codes: numpy arrays in, numbers out. Each function can be called by itself.

`METRICS` names them all, but for `stability`, of two runs, and what it is made of: `cosines`, `code_correlations` and
`matched`. What they take has the same name and meaning everywhere, N examples and J latents:

- `z`, (N, J): codes; which ones is up to the caller, and `Metric.code` says what `METRICS` gives.
- `gamma`, (N, J): spike probabilities. `mu`, (N, J): slab means.
- `factors`, (N, F): true factors; where attributes can be absent, factor times `presence`, (N, G), unless a metric
  takes that too: then values where the attribute is absent are not looked at. `groups`, (F,): the attribute of each
  factor, its column in `presence` or its name.
- `labels`, (N,): classes. `train_z`, (L, J), and `train_labels`, (L,): what a probe learns from.
- `directions`, (J, M): what each latent adds to an example, the rows of a linear decoder; `truth`, (F, M): what each
  true feature does, and `fires`, (N, F), where. `x` and `output`, (N, M): examples and their reconstructions.
- `bins`: bins of equal width for non-zero values; exact zero has one of its own. `seed`: of everything that is drawn.
- `kind`: `pearson`, or `spearman` on ranks (ties share their mean rank, so exact zeros are one rank). `magnitudes`:
  whether absolute values are correlated.

They return floats unless they say otherwise, and 0 for constant codes. UsageError: an array is not a finite matrix,
gamma no probabilities, presence not 0 or 1, the shapes do not fit, or an option is out of its range.
"""

from vsc.metrics.arrays import discretise
from vsc.metrics.correlation import correlations, mcc, row_max_correlation
from vsc.metrics.disentanglement import DCI, dci, explicitness, mig, modularity, sap
from vsc.metrics.factorvae import factor_vae
from vsc.metrics.features import Detection, detection, feature_f1, feature_mcc, feature_uniqueness, fvu, shrinkage
from vsc.metrics.information import MultiInformation, Shared, multi_information, mutual_information, spike_information
from vsc.metrics.matching import Match, code_correlations, cosines, matched, matched_cosine, stability
from vsc.metrics.presence import Detectors, Grouped, attributes, detectors, presence_auroc, within_mcc, within_mig
from vsc.metrics.probes import class_selectivity, knn_probe, linear_probe
from vsc.metrics.registry import METRICS, Given, Metric, measurable, measure, metric_of
from vsc.metrics.sparsity import Usage, active_units, activity_histogram, hoyer, l0, posterior_collapse, usage

__all__ = [
    "DCI", "METRICS", "Detection", "Detectors", "Given", "Grouped", "Match", "Metric", "MultiInformation", "Shared",
    "Usage", "active_units", "activity_histogram", "attributes", "class_selectivity", "code_correlations",
    "correlations", "cosines", "dci", "detection", "detectors", "discretise", "explicitness", "factor_vae",
    "feature_f1", "feature_mcc", "feature_uniqueness", "fvu", "hoyer", "knn_probe", "l0", "linear_probe", "matched",
    "matched_cosine", "mcc", "measurable", "measure", "metric_of", "mig", "modularity", "multi_information",
    "mutual_information", "posterior_collapse", "presence_auroc", "row_max_correlation", "sap", "shrinkage",
    "spike_information", "stability", "usage", "within_mcc", "within_mig",
]  # fmt: skip
