"""The reference trainer: SFT and GSPO on torch and FSDP2, small enough to be trusted. It reads releases, and measures them."""
