"""Metrics of codes: numpy arrays in, numbers out. Each function can be called by itself; `METRICS` names them all."""

from vsc.metrics.arrays import discretise
from vsc.metrics.correlation import correlations, mcc, row_max_correlation
from vsc.metrics.disentanglement import DCI, dci, explicitness, mig, modularity, sap
from vsc.metrics.factorvae import factor_vae
from vsc.metrics.information import (
    MultiInformation,
    Shared,
    multi_information,
    mutual_information,
    spike_information,
)
from vsc.metrics.presence import Grouped, attributes, presence_auroc, within_mcc, within_mig
from vsc.metrics.probes import class_selectivity, knn_probe, linear_probe
from vsc.metrics.registry import METRICS, Given, Metric, measurable, measure, metric_of
from vsc.metrics.sparsity import (
    Usage,
    active_units,
    activity_histogram,
    hoyer,
    l0,
    posterior_collapse,
    usage,
)

__all__ = [
    "DCI",
    "METRICS",
    "Given",
    "Grouped",
    "Metric",
    "MultiInformation",
    "Shared",
    "Usage",
    "active_units",
    "activity_histogram",
    "attributes",
    "class_selectivity",
    "correlations",
    "dci",
    "discretise",
    "explicitness",
    "factor_vae",
    "hoyer",
    "knn_probe",
    "l0",
    "linear_probe",
    "mcc",
    "measurable",
    "measure",
    "metric_of",
    "mig",
    "modularity",
    "multi_information",
    "mutual_information",
    "posterior_collapse",
    "presence_auroc",
    "row_max_correlation",
    "sap",
    "spike_information",
    "usage",
    "within_mcc",
    "within_mig",
]
