//! What a TPM computes, computed without one.
