"""SCSI tape: transport, drives, libraries, media and the virtual library."""
