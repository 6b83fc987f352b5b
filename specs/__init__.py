"""The nets that come with vggspec; ``importlib.resources.files("vggspec.specs")`` finds them."""
