"""The demo page: take a modality away and watch the answer move."""
