"""Multi-granularity item-based contrastive learning for matching (Xie et al., DASFAA 2023)."""

__version__ = "0.1.0"
