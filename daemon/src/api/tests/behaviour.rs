//! What the recorded examples do not show.
