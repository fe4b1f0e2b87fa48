"""The Amaranth generator of the accelerator that `hwsim.hardware.Accelerator` describes."""
