//! Every metric this node has, in one place.
