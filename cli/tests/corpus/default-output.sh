#!/bin/bash

echo to standard output
echo to standard error >&2
echo and again
