"""What pipelines leave behind, read as evidence for the hops from counts back to raw reads."""

from cytolabe.ingest.pipelines.agreement import Hop, contradiction_with
from cytolabe.ingest.pipelines.declared import DeclaredHops, declared_hops, pipeline_state
from cytolabe.ingest.pipelines.folder import PipelineFacts, read_pipeline

__all__ = [
    "DeclaredHops",
    "Hop",
    "PipelineFacts",
    "contradiction_with",
    "declared_hops",
    "pipeline_state",
    "read_pipeline",
]
