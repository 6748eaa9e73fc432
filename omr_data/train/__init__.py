"""The reference trainer: SFT and GSPO on torch and FSDP2, written to be read. It reads releases."""
