"""The virtual library: an SSC and SMC target that keeps its cartridges as files."""
