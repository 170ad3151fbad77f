"""The Cox model: partial likelihood, baseline hazard and predictions."""
from mmfusion.heads.cox.loss import *
from mmfusion.heads.cox.plan import CoxPlan
