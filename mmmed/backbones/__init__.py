"""Large networks from elsewhere, and the small convolutional network of our own: picture or volume ->
features."""
