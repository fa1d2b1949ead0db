"""The composition root: config → services → chain → doors. Owns start and stop of everything, decides nothing itself."""
