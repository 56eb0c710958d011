"""The application: a collection of images, indexed, searched and kept."""
