"""A relation module with memory, trained on episodes of some classes and measured on others."""
